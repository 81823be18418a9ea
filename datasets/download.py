"""Downloads with a progress bar that resume after a lost connection; only complete files get their name."""

import errno
import hashlib
import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import asdict, dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from gsplatloc.utils.archives import check_free_space
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError, quoted
from gsplatloc.utils.io import read_text, write_json, write_text

_CHUNK = 1 << 20  # bytes
_TIMEOUT_S = 60.0  # without receiving a byte
_ASKING_S = 10.0  # likewise, where only the size is asked for
_ATTEMPTS = 5  # in a row that brought nothing new before the download fails
_AGENT = "gsplatloc"  # some servers refuse urllib's own name
_HTTP_PARTIAL = 206
_HTTP_RANGE_NOT_SATISFIABLE = 416
_HTTP_TRANSIENT = frozenset({429, 500, 502, 503, 504})  # busy or restarting: worth another try
_MAX_BYTES = 64 << 30  # the largest archive of a public data set that is set up here has 16 GB
# Failures of the disk: another request to the server would not help.
_DISK_ERRNOS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO, errno.EISDIR}
)


class _Refusal(Exception):
    """The server's answer cannot be used, and asking again will not help."""


@dataclass(frozen=True)
class _Version:
    """Identity of a version of a file on a server; kept beside a part as `.part.json`."""

    address: str
    tag: str | None  # ETag
    modified: str | None  # Last-Modified
    total: int | None  # bytes of the whole file

    @classmethod
    def of(cls, address: str, headers: Message, total: int | None) -> "_Version":
        return cls(address, headers.get("ETag"), headers.get("Last-Modified"), total)

    @property
    def condition(self) -> str | None:
        """The value of If-Range: a strong ETag, else the date; None if the server names neither."""
        return self.tag if self.tag and not self.tag.startswith("W/") else self.modified


def download(address: str, path: Path, retry_wait_s: float = 2.0, max_bytes: int = _MAX_BYTES) -> Path:
    """Download `address` to `path` and return it. A complete file is kept, an incomplete `.part` continued.

    A part is continued only if the server confirms that its file is still the same version; a server that
    names no version (ETag or Last-Modified) sends the whole file again. Raises `GSplatLocError` if the
    server refuses, the file is larger than `max_bytes` or than the disk's free space, or the connection is
    lost repeatedly; the `.part` then stays, and the next call continues it. Likewise if the file is another
    one than that of the first download (`confirm`).
    """
    if path.is_file():
        confirm(path)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    failures, most = 0, _size(part)
    while True:
        try:
            _fetch(address, part, max_bytes)
            break
        except (ValueError, http.client.InvalidURL, _Refusal) as error:
            raise _refused(address, error) from None
        except (OSError, http.client.HTTPException) as error:  # a URLError is an OSError
            if _is_final(error):
                raise _refused(address, error) from None
            if isinstance(error, OSError) and error.errno in _DISK_ERRNOS:
                raise
            failures = 1 if _size(part) > most else failures + 1
            most = max(most, _size(part))
            if failures >= _ATTEMPTS:
                raise _refused(address, error) from None
            log(f"{path.name}: connection lost at {_size(part)} bytes, trying again")
            time.sleep(retry_wait_s * failures)
    confirm(path, part)
    part.replace(path)
    _record(part).unlink(missing_ok=True)
    return path


def confirm(path: Path, content: Path | None = None) -> None:
    """Compare a file with the checksum in `NAME.sha256` beside it; the first time, that file is written.

    `content` holds what will be the file's, by default the file itself. Upstream publishes no checksums: so
    a file that was changed on the disk or on the server since its first use is noticed. `sha256sum -c`
    reads the file. Raises `GSplatLocError` for another checksum.
    """
    with (content or path).open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    record = path.with_name(path.name + ".sha256")
    if not record.is_file():
        with suppress(GSplatLocError):  # of archives in a shared folder that another user owns
            write_text(record, f"{found}  {path.name}\n")
    elif found not in read_text(record).lower().split():
        raise GSplatLocError(
            f"expected {content or path} with the checksum in {record.name}, of its first download, found"
            f" {found}: the file changed; delete it, or delete {record} to take it as it is"
        )


def remote_size(address: str) -> int | None:
    """The size in bytes of the file at an address, without downloading it; None if it is not stated."""
    try:
        with _OPENER.open(_request(address, None, 0), timeout=_ASKING_S) as response:
            return _total_size(response.headers, partial=False)
    except (OSError, ValueError, http.client.HTTPException, _Refusal):
        return None


def _fetch(address: str, part: Path, max_bytes: int) -> None:
    """Complete `part`; raises ConnectionError if the server sends fewer bytes or another version."""
    known = _known_version(address, part)
    if known is not None and known.total == _size(part):
        return
    have = 0 if known is None else _size(part)
    try:
        response = _OPENER.open(_request(address, known, have), timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != _HTTP_RANGE_NOT_SATISFIABLE:
            raise
        raise _start_over(part) from None
    with response:
        continued = response.status == _HTTP_PARTIAL
        total = _total_size(response.headers, continued)
        version = _Version.of(address, response.headers, total)
        if continued and (version != known or _first_byte(response.headers) != have):
            raise _start_over(part)
        start = have if continued else 0  # the server has another version, or sends no ranges
        _check_size(response, total, start, max_bytes, part.parent)
        if not continued:
            write_json(_record(part), asdict(version))
        with part.open("ab" if continued else "wb") as file:
            _copy(response, file, start, total, max_bytes, part.stem)
    if total is not None and _size(part) != total:
        raise ConnectionError(f"received {_size(part)} of {total} bytes")


class _SecureRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections, but none from https to an address that is not encrypted."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if req.full_url.lower().startswith("https:") and not newurl.lower().startswith("https:"):
            raise _Refusal(f"a redirection from https to {quoted(newurl)}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_SecureRedirects)


def _request(address: str, known: _Version | None, have: int) -> urllib.request.Request:
    if not address.lower().startswith(("http://", "https://")):
        raise _Refusal("an address that starts neither with https:// nor with http://")
    headers = {"User-Agent": _AGENT}
    if known is not None and known.condition and have:
        headers |= {"Range": f"bytes={have}-", "If-Range": known.condition}
    return urllib.request.Request(address, headers=headers)


def _known_version(address: str, part: Path) -> _Version | None:
    """The version that `part` belongs to; None if that is unknown or cannot be asked for again."""
    try:
        found = _Version(**json.loads(_record(part).read_text(encoding="utf-8")))
        usable = found.address == address and found.condition and _size(part) <= (found.total or 0)
        return found if usable else None
    except (OSError, ValueError, TypeError):
        return None


def _start_over(part: Path) -> ConnectionError:
    part.unlink(missing_ok=True)
    return ConnectionError("the file on the server changed, downloading it again")


def _check_size(
    response: http.client.HTTPResponse, total: int | None, start: int, max_bytes: int, folder: Path
) -> None:
    """Refuse a file that is too large, and one that could be cut without a sign of it."""
    if total is None and not response.chunked:
        raise _Refusal("a server that does not state the size of the file")
    if total is not None and total > max_bytes:
        raise _Refusal(f"a file of {total} bytes where at most {max_bytes} were expected")
    check_free_space((total or 0) - start, folder)


def _copy(
    response: http.client.HTTPResponse, file: IO[bytes], start: int, total: int | None, limit: int, label: str
) -> None:
    done = start
    with tqdm(total=total, initial=start, desc=label, unit="B", unit_scale=True, dynamic_ncols=True) as bar:
        while chunk := response.read(_CHUNK):
            done += len(chunk)
            if done > limit:
                raise _Refusal(f"more than the {limit} bytes that were expected at most")
            file.write(chunk)
            bar.update(len(chunk))


def _total_size(headers: Message, partial: bool) -> int | None:
    """The size of the whole file by `Content-Range: bytes a-b/total` or `Content-Length`; None if unknown."""
    text = (
        headers.get("Content-Range", "").rpartition("/")[2] if partial else headers.get("Content-Length", "")
    )
    return int(text) if text.isdecimal() else None


def _first_byte(headers: Message) -> int | None:
    text = headers.get("Content-Range", "").removeprefix("bytes").strip().partition("-")[0]
    return int(text) if text.isdecimal() else None


def _record(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _is_final(error: Exception) -> bool:
    """Whether another try would end alike: the server refuses, or its certificate does not fit."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code not in _HTTP_TRANSIENT
    return isinstance(getattr(error, "reason", error), ssl.SSLCertVerificationError)


def _refused(address: str, error: Exception) -> GSplatLocError:
    reason = f"HTTP status {error.code}" if isinstance(error, urllib.error.HTTPError) else quoted(error)
    return GSplatLocError(
        f"expected a file at {address}, found {reason or type(error).__name__}: check the connection and run"
        " the same command again, which continues the download, or name a --mirror"
    )
