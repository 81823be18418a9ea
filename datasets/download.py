"""Downloads with a progress bar that resume after a lost connection; only complete files get their name."""

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
_TIMEOUT_S = 60.0  # without receiving a byte
_ATTEMPTS = 5  # in a row that received nothing before the download fails
_AGENT = "gsplatloc"  # some servers refuse urllib's own name
_HTTP_PARTIAL = 206
_HTTP_RANGE_NOT_SATISFIABLE = 416
_HTTP_TRANSIENT = frozenset({429, 500, 502, 503, 504})  # busy or restarting: worth another try


def download(address: str, path: Path, retry_wait_s: float = 2.0) -> Path:
    """Download `address` to `path` and return it. A complete file is kept, an incomplete `.part` continued.

    Raises `GSplatLocError` if the server refuses or the connection is lost repeatedly. The `.part` stays, and
    the next call continues it.
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
            log(f"{path.name}: connection lost at {_size(part)} bytes, trying again")
            time.sleep(retry_wait_s * failures)
    part.replace(path)
    return path


def download_text(address: str, path: Path) -> str:
    """Download a text file to `path` and return its content."""
    return download(address, path).read_text(encoding="utf-8")


def _fetch(address: str, part: Path) -> None:
    """Append the missing bytes to `part`; raises ConnectionError if the server sends fewer."""
    have = _size(part)
    headers = {"User-Agent": _AGENT} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(address, headers=headers), timeout=_TIMEOUT_S
        )
    except urllib.error.HTTPError as error:
        if error.code != _HTTP_RANGE_NOT_SATISFIABLE:
            raise
        # The server has no bytes after ours: the file is complete, or it was replaced by a shorter one.
        if have != _total_size(error.headers, 0):
            part.unlink()
            raise ConnectionError("the file on the server changed, downloading it again") from None
        return
    with response:
        continued = response.status == _HTTP_PARTIAL
        start = have if continued else 0  # a server without ranges sends everything again
        total = _total_size(response.headers, start)
        with part.open("ab" if continued else "wb") as file:
            _copy(response, file, start, total, part.stem)
    if total is not None and _size(part) != total:
        raise ConnectionError(f"received {_size(part)} of {total} bytes")


def _copy(response: BinaryIO, file: BinaryIO, start: int, total: int | None, label: str) -> None:
    with tqdm(total=total, initial=start, desc=label, unit="B", unit_scale=True, dynamic_ncols=True) as bar:
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            bar.update(len(chunk))


def _total_size(headers: Message, start: int) -> int | None:
    """The size of the whole file by `Content-Range: bytes a-b/total` or `Content-Length`; None if unknown."""
    total = headers.get("Content-Range", "").rpartition("/")[2]
    if total.isdecimal():
        return int(total)
    length = headers.get("Content-Length", "")
    return start + int(length) if length.isdecimal() else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _refused(address: str, reason: str) -> GSplatLocError:
    return GSplatLocError(
        f"expected a file at {address}, found {reason}: check the connection and run the same command again,"
        " which continues the download, or name a --mirror"
    )
