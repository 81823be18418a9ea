"""Who may look at the live view: requests with forged headers, addresses that cannot be served at."""

import asyncio
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.visualization.live_view.server import HostGuard, start_server

viser = pytest.importorskip("viser")

ROOT = Path(__file__).resolve().parents[3]
REFUSED = 403


@pytest.fixture(scope="module")
def server() -> Iterator[viser.ViserServer]:
    server = start_server("127.0.0.1", 18080, ["view.example.org"])
    points = np.zeros((5000, 3), np.float32)
    server.scene.add_point_cloud("/map", points, points)
    yield server
    server.stop()


def page_status(port: int, host: str | None, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest("GET", "/", skip_host=True)
    for name, value in ({} if host is None else {"Host": host} | headers).items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection.getresponse().status


def received(port: int, *, host: str, origin: str | None, message: bytes | None = None) -> int:
    """Bytes that a websocket gets until the map has arrived; the HTTP status if it is refused."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidStatus

    async def listen() -> int:
        protocol = f"viser-v{viser.__version__}"
        address = f"ws://{host}/"
        options = {"host": "127.0.0.1", "port": port, "subprotocols": [protocol], "max_size": None}
        try:
            async with connect(address, origin=origin, **options) as socket_:
                if message is not None:
                    await socket_.send(message)
                got = 0
                while got < 10_000:
                    got += len(await asyncio.wait_for(socket_.recv(), 30))
                return got
        except InvalidStatus as error:
            return error.response.status_code

    return asyncio.run(listen())


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "LOCALHOST", "view.example.org"])
def test_own_page_gets_the_map(server: viser.ViserServer, name: str) -> None:
    port = server.get_port()
    host = f"{name}:{port}"
    assert page_status(port, host) == 200
    assert received(port, host=host, origin=f"http://{host}") > 10_000


def test_other_ports_of_a_tunnel_are_no_other_host(server: viser.ViserServer) -> None:
    """`ssh -L 9000:localhost:8080`: the browser says localhost:9000."""
    assert received(server.get_port(), host="localhost:9000", origin="http://localhost:9000") > 10_000


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "https://evil.example:8080", "null", "http://localhost:3000", "http://localhost",
     "http://localhost.evil.example", "http://view.example.org.evil.example", "file://"],
)  # fmt: skip
def test_a_foreign_page_gets_nothing(server: viser.ViserServer, origin: str) -> None:
    port = server.get_port()
    assert received(port, host=f"localhost:{port}", origin=origin) == REFUSED


@pytest.mark.parametrize(
    "name", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "evil@localhost"]
)
def test_a_name_that_was_made_to_lead_here_gets_nothing(server: viser.ViserServer, name: str) -> None:
    port = server.get_port()
    host = f"{name}:{port}"
    assert page_status(port, host) == REFUSED
    if "@" not in name:
        assert received(port, host=host, origin=f"http://{host}") == REFUSED


def test_a_page_without_host_is_refused(server: viser.ViserServer) -> None:
    assert page_status(server.get_port(), None) == REFUSED


def test_a_proxy_that_hides_the_host_may_be_named(server: viser.ViserServer) -> None:
    port = server.get_port()
    assert received(port, host=f"127.0.0.1:{port}", origin="https://view.example.org") > 10_000


def test_several_hosts_or_origins_are_refused() -> None:
    guard = HostGuard("127.0.0.1")
    assert guard.refusal(["localhost", "localhost"], [], "127.0.0.1")
    assert guard.refusal(["localhost"], ["http://localhost", "http://evil.example"], "127.0.0.1")
    assert guard.refusal(["localhost"], [], "127.0.0.1") is None
    assert guard.refusal(["[::1]:8080"], ["http://[::1]:8080"], "::1") is None


def test_a_server_on_all_addresses_answers_to_the_one_that_was_called() -> None:
    server = start_server("0.0.0.0", 18180)
    try:
        port = server.get_port()
        assert page_status(port, f"127.0.0.1:{port}") == 200
        assert page_status(port, f"localhost:{port}") == 200
        assert page_status(port, f"evil.example:{port}") == REFUSED
    finally:
        server.stop()


def test_nobody_opens_a_tunnel(server: viser.ViserServer, monkeypatch: pytest.MonkeyPatch) -> None:
    import msgspec
    from viser import _messages, _viser

    opened: list[object] = []
    monkeypatch.setattr(_viser, "ViserTunnel", lambda *arguments: opened.append(arguments))
    request = msgspec.msgpack.encode(_messages.ShareUrlRequest().as_serializable_dict([]))
    port = server.get_port()
    received(port, host=f"localhost:{port}", origin=f"http://localhost:{port}", message=request)
    time.sleep(0.5)
    assert not opened and server.request_share_url() is None


def test_a_server_that_cannot_be_guarded_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HostGuard, "wrap", lambda self, answer: answer)
    with pytest.raises(GSplatLocError, match="pip install viser"):
        start_server("127.0.0.1", 18280)


def test_a_port_in_use_gives_the_next_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = start_server("127.0.0.1", port)
        assert server.get_port() > port
        server.stop()


@pytest.mark.parametrize(
    ("ip", "port", "message"),
    [
        ("203.0.113.7", 8080, "203.0.113.7"),
        ("no-such-host.invalid", 8080, "no-such-host.invalid"),
        ("not an address", 8080, "not an address"),
        ("a" * 70, 8080, "a" * 70),
        ("", 8080, "--ip"),
        ("127.0.0.1", 65536, "65536"),
        ("127.0.0.1", -1, "-1"),
    ],
)
def test_an_address_that_cannot_be_served_at_is_one_line(ip: str, port: int, message: str) -> None:
    with pytest.raises(GSplatLocError, match=message):
        start_server(ip, port)


def test_the_command_ends_with_one_line_instead_of_hanging(tmp_path: Path) -> None:
    from gsplatloc.scene.formats import write_splat
    from tests.visualization.live_view.test_viewer import gaussians

    write_splat(tmp_path / "a.ply", gaussians())
    ended = subprocess.run(
        [sys.executable, "view.py", "-m", str(tmp_path / "a.ply"), "--ip", "203.0.113.7"],
        cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert len(ended.stderr.strip().splitlines()) == 1 and "203.0.113.7" in ended.stderr
