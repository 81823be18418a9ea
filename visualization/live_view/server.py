"""The web server of the live view: viser's, which by itself answers every web page that finds its address."""

import errno
import io
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from gsplatloc.utils.errors import GSplatLocError, quoted

_MAX_PORT = 65535
_PORTS_TRIED = 100  # after the one asked for


def start_server(ip: str, port: int, allowed_hosts: Sequence[str] = ()) -> Any:
    """A viser server at `ip` and the first free port from `port` on.

    Requests are answered if their Host is the address that the connection leads to, localhost, or one of
    `allowed_hosts`, and their Origin, if any, is this server. Nobody can open a public tunnel. Raises
    `GSplatLocError` if viser is missing or nothing can be served at the address.
    """
    try:
        import viser
    except ImportError:
        raise GSplatLocError("expected viser for the live view, found none: pip install viser") from None

    class PrivateServer(viser.ViserServer):
        def request_share_url(self, verbose: bool = True) -> str | None:
            """Refuse: a client's request would publish the map by a tunnel through viser's own servers."""
            return None

    port = _free_port(ip, port)  # viser itself waits for ever if it can't listen
    # It logs an error for each connection without a request.
    logging.getLogger("websockets.server").setLevel(logging.CRITICAL)
    guard = HostGuard(ip, allowed_hosts)
    with _guarded(guard), redirect_stdout(io.StringIO()):  # viser prints a banner, whatever `verbose` says
        server = PrivateServer(host=ip, port=port, label="GSplatLoc", verbose=False)
    if not guard.installed:
        server.stop()
        raise GSplatLocError(
            f"expected a viser whose requests can be checked, found {viser.__version__}: pip install"
            " viser==1.1.1"
        )
    server.gui.configure_theme(show_share_button=False)
    return server


class HostGuard:
    """Decides by Host and Origin who is answered.

    A foreign web page can make the browser of whoever looks at it connect to this server. The browser then
    sends the page's address as Origin or, if the page's name was made to resolve to this machine (DNS
    rebinding), as Host.
    """

    def __init__(self, ip: str, allowed_hosts: Sequence[str] = ()) -> None:
        self._named = {host.lower() for host in allowed_hosts}
        self._hosts = self._named | {"localhost", ip.lower()}
        self.installed = False

    def refusal(self, hosts: Sequence[str], origins: Sequence[str], local_ip: str) -> str | None:
        """Why a request with these headers is refused; None if it is answered.

        `local_ip` is the address of this machine that the connection leads to.
        """
        host = hosts[0] if len(hosts) == 1 else ""
        if _hostname(host) not in self._hosts | {local_ip}:
            return (
                f"expected a request for localhost or {local_ip}, found {quoted(host) or 'no host'}:"
                " add --allowed_hosts NAME to the command that serves the view"
            )
        for origin in origins:
            netloc = origin.partition("://")[2]
            if netloc.lower() != host.lower() and _hostname(netloc) not in self._named:
                return f"expected a request of this server's own page, found one of {quoted(origin)}"
        return None

    def wrap(self, answer: Callable[..., Any]) -> Callable[..., Any]:
        """`answer(connection, request)` of the web server, preceded by the check."""
        self.installed = True

        def checked(connection: Any, request: Any) -> Any:
            found = (request.headers.get_all("Host"), request.headers.get_all("Origin"))
            reason = self.refusal(*found, connection.local_address[0])
            if reason:
                return connection.respond(HTTPStatus.FORBIDDEN, reason + "\n")
            return answer(connection, request)

        return checked


@contextmanager
def _guarded(guard: HostGuard) -> Iterator[None]:
    """While viser starts, its web server is made with the guard: viser has no option for it."""
    from websockets.asyncio import server

    serve: Any = server.serve

    def guarded(*arguments: Any, process_request: Callable[..., Any], **options: Any) -> Any:
        return serve(*arguments, process_request=guard.wrap(process_request), **options)

    server.serve = guarded  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        server.serve = serve  # type: ignore[misc]


def _hostname(netloc: str) -> str | None:
    """The host of `host[:port]`, in lower case and without brackets; None for anything else."""
    try:
        parts = urlsplit(f"//{netloc}")
        return parts.hostname if parts.netloc == netloc and "@" not in netloc else None
    except ValueError:  # brackets that do not match
        return None


def _free_port(ip: str, port: int) -> int:
    """`port`, or the next one on which this machine can listen at `ip`."""
    if not 0 <= port <= _MAX_PORT:
        raise GSplatLocError(f"expected a port from 0 to {_MAX_PORT}, found {port}: choose another --port")
    for candidate in range(port, min(port + _PORTS_TRIED, _MAX_PORT) + 1):
        try:
            for family, _, _, _, address in socket.getaddrinfo(ip, candidate, type=socket.SOCK_STREAM):
                _try_to_listen(family, address)
            return candidate
        except (OSError, UnicodeError) as error:  # the latter for names that cannot be host names
            if getattr(error, "errno", None) != errno.EADDRINUSE:
                raise GSplatLocError(
                    f"expected an address of this machine to serve at, found {quoted(ip)}:{candidate}"
                    f" ({error}): choose another --ip or --port"
                ) from None
    raise GSplatLocError(f"expected a free port from {port} on, found none: choose another --port")


def _try_to_listen(family: int, address: Any) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        probe.bind(address)
        probe.listen()
