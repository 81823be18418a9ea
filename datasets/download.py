"""Downloads that show their progress, survive a cut connection and never leave half a file under its name."""

import http.client
import time
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError

_CHUNK = 1 << 20  # bytes
_TIMEOUT_S = 60.0  # without a byte
_ATTEMPTS = 5  # without progress, before giving up; a connection that got further starts the count again
_AGENT = "gsplatloc"  # some servers refuse urllib's own name
_HTTP_PARTIAL = 206
_HTTP_RANGE_NOT_SATISFIABLE = 416
_HTTP_TRANSIENT = frozenset({429, 500, 502, 503, 504})  # busy or restarting: worth another try


def download(address: str, path: Path, retry_wait_s: float = 2.0) -> Path:
    """Fetch `address` into `path` and return it; a complete file is kept, a `.part` beside it continued.

    Raises `GSplatLocError` when the server refuses or the connection is lost for good: the part stays, and
    the next call goes on where this one ended.
    """
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    failures = 0
    while True:
        before = _size(part)
        try:
            _fetch(address, part)
            break
        except ValueError as error:
            raise _refused(address, str(error)) from None
        except (OSError, http.client.HTTPException) as error:  # a URLError is an OSError
            if isinstance(error, urllib.error.HTTPError) and error.code not in _HTTP_TRANSIENT:
                raise _refused(address, f"HTTP status {error.code}") from None
            failures = 1 if _size(part) > before else failures + 1
            if failures >= _ATTEMPTS:
                raise _refused(address, str(error) or type(error).__name__) from None
            log(f"{path.name}: connection lost at {_size(part)} bytes, going on")
            time.sleep(retry_wait_s * failures)
    part.replace(path)
    return path


def download_text(address: str, path: Path) -> str:
    """Fetch a text file into `path` and return its content."""
    return download(address, path).read_text(encoding="utf-8")


def _fetch(address: str, part: Path) -> None:
    """Append what is missing to `part`; raises ConnectionError when the server stops short of it."""
    have = _size(part)
    headers = {"User-Agent": _AGENT} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(address, headers=headers), timeout=_TIMEOUT_S
        )
    except urllib.error.HTTPError as error:
        if error.code != _HTTP_RANGE_NOT_SATISFIABLE:
            raise
        # Nothing lies past what we have: either that is all of it, or the file upstream is another one now.
        if have != _total_size(error.headers, 0):
            part.unlink()
            raise ConnectionError("the file upstream changed, starting over") from None
        return
    with response:
        continued = response.status == _HTTP_PARTIAL
        start = have if continued else 0  # a server without ranges sends everything again
        total = _total_size(response.headers, start)
        with part.open("ab" if continued else "wb") as file:
            _copy(response, file, start, total, part.stem)
    if total is not None and _size(part) != total:
        raise ConnectionError(f"{total} bytes were announced and {_size(part)} came")


def _copy(response: BinaryIO, file: BinaryIO, start: int, total: int | None, label: str) -> None:
    with tqdm(total=total, initial=start, desc=label, unit="B", unit_scale=True, dynamic_ncols=True) as bar:
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            bar.update(len(chunk))


def _total_size(headers: Message, start: int) -> int | None:
    """The whole file's size from `Content-Range: bytes a-b/total` or `Content-Length`, None where unknown."""
    total = headers.get("Content-Range", "").rpartition("/")[2]
    if total.isdecimal():
        return int(total)
    length = headers.get("Content-Length", "")
    return start + int(length) if length.isdecimal() else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _refused(address: str, reason: str) -> GSplatLocError:
    return GSplatLocError(
        f"expected a file at {address}, found {reason}: check the connection and run the same command again"
        " (it goes on where it ended), or name a --mirror"
    )
