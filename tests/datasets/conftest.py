"""A mirror on this machine: it serves a folder over HTTP, with ranges and versions, and can misbehave."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


@dataclass
class Mirror:
    """What the server serves and what it saw."""

    root: Path
    address: str = ""
    cut_after: int | None = None  # bytes after which the next response is cut, once
    failures: list[int] = field(default_factory=list)  # statuses of the next responses
    ranges: bool = True  # whether Range headers are honoured
    if_range: bool = True  # whether If-Range headers are honoured
    etag: bool = True  # whether responses have an ETag, the hash of the content
    length: str | None = "true"  # Content-Length: true, another value, or None for none
    redirect: str | None = None  # where every request is sent
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # (path, Range header)

    def put(self, path: str, content: bytes) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def make_handler(mirror: Mirror) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name http.server looks for
            wanted = self.headers.get("Range")
            mirror.requests.append((self.path, wanted))
            path = mirror.root / self.path.lstrip("/")
            if mirror.failures:
                self.send_error(mirror.failures.pop(0))
            elif mirror.redirect:
                self.send_response(302)
                self.send_header("Location", mirror.redirect)
                self.end_headers()
            elif path.is_file():
                self.send_content(path.read_bytes(), wanted)
            else:
                self.send_error(404)

        def send_content(self, content: bytes, wanted: str | None) -> None:
            tag = f'"{hashlib.md5(content).hexdigest()}"'
            same = not mirror.if_range or self.headers.get("If-Range") in (None, tag)
            start = 0
            if wanted and mirror.ranges and same:
                start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            else:
                self.send_response(200)
            if mirror.etag:
                self.send_header("ETag", tag)
            if mirror.length:
                true = str(len(content) - start)
                self.send_header("Content-Length", true if mirror.length == "true" else mirror.length)
            self.end_headers()
            cut, mirror.cut_after = mirror.cut_after, None
            self.wfile.write(content[start:] if cut is None else content[start : start + cut])

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    served = Mirror(tmp_path / "mirror")
    served.root.mkdir()
    with serving(served):
        yield served


@contextmanager
def serving(served: Mirror) -> Iterator[None]:
    """Serve a mirror, whose address is set, within the body."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(served))
    served.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield
    server.shutdown()
    server.server_close()
    thread.join()
