"""Downloads: resuming, refusing and never passing off a part as the whole."""

import hashlib
import io
import os
import shutil
import socket
import urllib.request
from email.message import Message
from pathlib import Path
from types import SimpleNamespace

import pytest

from gsplatloc.datasets import download as download_module
from gsplatloc.datasets import upstream
from gsplatloc.datasets.download import download
from gsplatloc.utils.errors import GSplatLocError

CONTENT = os.urandom(300_000)


def fetch(mirror, path: Path) -> Path:  # type: ignore[no-untyped-def]
    return download(f"{mirror.address}/big.bin", path, retry_wait_s=0.0)


def test_a_file_arrives_whole_and_leaves_no_part(mirror, tmp_path: Path) -> None:
    mirror.put("big.bin", CONTENT)
    path = fetch(mirror, tmp_path / "out" / "big.bin")
    assert path.read_bytes() == CONTENT
    assert sorted(file.name for file in path.parent.iterdir()) == ["big.bin", "big.bin.sha256"]


def test_a_cut_connection_is_continued_where_it_was_cut(mirror, tmp_path: Path) -> None:
    mirror.put("big.bin", CONTENT)
    mirror.cut_after = 100_000
    assert fetch(mirror, tmp_path / "big.bin").read_bytes() == CONTENT
    assert [wanted for _, wanted in mirror.requests] == [None, "bytes=100000-"]


def cut_short(mirror, path: Path) -> None:  # type: ignore[no-untyped-def]
    """Leave what a run leaves that is killed after 1,234 bytes."""
    mirror.cut_after, mirror.failures = 1234, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download_module, "_ATTEMPTS", 1)
        with pytest.raises(GSplatLocError, match="received 1234 of"):
            fetch(mirror, path)
    mirror.requests.clear()


def test_the_part_of_a_killed_run_is_continued(mirror, tmp_path: Path) -> None:
    mirror.put("big.bin", CONTENT)
    cut_short(mirror, tmp_path / "big.bin")
    assert fetch(mirror, tmp_path / "big.bin").read_bytes() == CONTENT
    assert [wanted for _, wanted in mirror.requests] == ["bytes=1234-"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["big.bin", "big.bin.sha256", "mirror"]


@pytest.mark.parametrize("size", [len(CONTENT), 300, 500_000], ids=["same", "shorter", "longer"])
@pytest.mark.parametrize("if_range", [True, False])
def test_a_part_is_not_completed_with_another_version(
    mirror, tmp_path: Path, size: int, if_range: bool
) -> None:
    mirror.put("big.bin", CONTENT)
    cut_short(mirror, tmp_path / "big.bin")
    newer = os.urandom(size)
    mirror.put("big.bin", newer)
    mirror.if_range = if_range
    assert fetch(mirror, tmp_path / "big.bin").read_bytes() == newer


def test_a_file_that_changes_while_the_connection_is_lost_is_started_over(mirror, tmp_path: Path) -> None:
    mirror.put("big.bin", CONTENT)
    mirror.cut_after = 100_000
    newer = os.urandom(300_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download_module.time, "sleep", lambda _: mirror.put("big.bin", newer))
        assert fetch(mirror, tmp_path / "big.bin").read_bytes() == newer


def test_a_server_that_names_no_version_sends_everything_again(mirror, tmp_path: Path) -> None:
    mirror.etag = False
    mirror.put("big.bin", CONTENT)
    mirror.cut_after = 100_000
    assert fetch(mirror, tmp_path / "big.bin").read_bytes() == CONTENT
    assert [wanted for _, wanted in mirror.requests] == [None, None]


@pytest.mark.parametrize("record", [None, "{", "[]", '{"address": 1}'])
def test_a_part_of_unknown_version_is_started_over(mirror, tmp_path: Path, record: str | None) -> None:
    mirror.put("big.bin", CONTENT)
    (tmp_path / "big.bin.part").write_bytes(os.urandom(1234))
    if record:
        (tmp_path / "big.bin.part.json").write_text(record)
    assert fetch(mirror, tmp_path / "big.bin").read_bytes() == CONTENT


def test_a_part_of_another_mirror_is_started_over(mirror, tmp_path: Path) -> None:
    mirror.put("other/big.bin", os.urandom(300_000))
    mirror.put("big.bin", CONTENT)
    mirror.cut_after = 1234
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download_module, "_ATTEMPTS", 1)
        with pytest.raises(GSplatLocError):
            download(f"{mirror.address}/other/big.bin", tmp_path / "big.bin")
    assert fetch(mirror, tmp_path / "big.bin").read_bytes() == CONTENT


def test_a_part_that_was_already_whole_is_taken(mirror, tmp_path: Path) -> None:
    mirror.put("big.bin", CONTENT)
    cut_short(mirror, tmp_path / "big.bin")
    (tmp_path / "big.bin.part").write_bytes(CONTENT)
    assert fetch(mirror, tmp_path / "big.bin").read_bytes() == CONTENT
    assert mirror.requests == []


def test_a_part_longer_than_the_file_is_started_over(mirror, tmp_path: Path) -> None:
    mirror.put("big.bin", CONTENT)
    cut_short(mirror, tmp_path / "big.bin")
    (tmp_path / "big.bin.part").write_bytes(CONTENT + b"of an older version")
    assert fetch(mirror, tmp_path / "big.bin").read_bytes() == CONTENT


def test_a_length_that_is_never_reached_is_given_up_on(mirror, tmp_path: Path) -> None:
    mirror.length = "400000"
    mirror.put("big.bin", CONTENT)
    with pytest.raises(GSplatLocError, match="received 300000 of 400000"):
        fetch(mirror, tmp_path / "big.bin")
    assert not (tmp_path / "big.bin").exists() and len(mirror.requests) == 5


def test_an_answer_that_could_be_cut_unnoticed_is_refused(mirror, tmp_path: Path) -> None:
    mirror.length = None
    mirror.put("big.bin", CONTENT)
    with pytest.raises(GSplatLocError, match="does not state the size"):
        fetch(mirror, tmp_path / "big.bin")
    assert len(mirror.requests) == 1


def test_a_file_larger_than_expected_is_refused_before_it_is_read(mirror, tmp_path: Path) -> None:
    mirror.put("big.bin", CONTENT)
    with pytest.raises(GSplatLocError, match="300000 bytes where at most 1000"):
        download(f"{mirror.address}/big.bin", tmp_path / "big.bin", max_bytes=1000)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mirror"]


def test_free_space_is_checked_before_anything_is_written(mirror, tmp_path: Path) -> None:
    mirror.put("big.bin", CONTENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000, total=9000))
        with pytest.raises(GSplatLocError, match="free space"):
            fetch(mirror, tmp_path / "big.bin")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mirror"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_no_lost_connection(mirror, tmp_path: Path) -> None:
    mirror.put("big.bin", CONTENT)
    (tmp_path / "big.bin.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        fetch(mirror, tmp_path / "big.bin")
    assert len(mirror.requests) == 1


def test_a_server_that_says_nothing_is_given_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "_TIMEOUT_S", 0.1)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        with pytest.raises(GSplatLocError, match="timed out"):
            download(f"http://127.0.0.1:{deaf.getsockname()[1]}/x", tmp_path / "x", retry_wait_s=0.0)


def test_a_redirection_is_followed_but_not_out_of_encryption(mirror, tmp_path: Path) -> None:
    mirror.put("big.bin", CONTENT)
    request = urllib.request.Request("https://example.org/big.bin")
    follow = download_module._SecureRedirects().redirect_request
    with pytest.raises(Exception, match="redirection from https"):
        follow(request, io.BytesIO(), 302, "Found", Message(), f"{mirror.address}/big.bin")
    assert follow(request, io.BytesIO(), 302, "Found", Message(), "https://example.org/b") is not None


def test_upstream_addresses_are_encrypted() -> None:
    sources = [value for value in vars(upstream).values() if isinstance(value, upstream.Source)]
    assert len(sources) == 5 and all(source.base.startswith("https://") for source in sources)


def test_a_server_without_ranges_starts_over(mirror, tmp_path: Path) -> None:
    mirror.put("big.bin", CONTENT)
    mirror.ranges = False
    cut_short(mirror, tmp_path / "big.bin")
    assert fetch(mirror, tmp_path / "big.bin").read_bytes() == CONTENT


def test_a_file_that_is_there_is_not_asked_for(mirror, tmp_path: Path) -> None:
    (tmp_path / "big.bin").write_bytes(b"mine")
    assert fetch(mirror, tmp_path / "big.bin").read_bytes() == b"mine"
    assert mirror.requests == []


def test_a_refusal_names_the_address_and_leaves_nothing(mirror, tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="404"):
        fetch(mirror, tmp_path / "big.bin")
    assert not (tmp_path / "big.bin").exists()


def test_a_busy_server_is_asked_again(mirror, tmp_path: Path) -> None:
    mirror.put("big.bin", CONTENT)
    mirror.failures = [503, 429]
    assert fetch(mirror, tmp_path / "big.bin").read_bytes() == CONTENT


def test_a_server_that_stays_busy_is_given_up_on(mirror, tmp_path: Path) -> None:
    mirror.failures = [503] * 20
    with pytest.raises(GSplatLocError, match="503"):
        fetch(mirror, tmp_path / "big.bin")
    assert len(mirror.requests) == 5


@pytest.mark.parametrize(
    "address", ["my-mirror/big.bin", "file:///etc/hostname", "ftp://host/x", "http://", "http://a b/"]
)
def test_an_address_that_is_none_is_a_users_error(tmp_path: Path, address: str) -> None:
    with pytest.raises(GSplatLocError, match="expected a file at"):
        download(address, tmp_path / "big.bin", retry_wait_s=0.0)


def test_a_server_that_is_not_there_is_given_up_on(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="check the connection"):
        download("http://127.0.0.1:9/none", tmp_path / "none", retry_wait_s=0.0)


def test_the_checksum_of_the_first_download_is_what_sha256sum_reads(mirror, tmp_path: Path) -> None:
    mirror.put("big.bin", CONTENT)
    fetch(mirror, tmp_path / "big.bin")
    record = (tmp_path / "big.bin.sha256").read_text()
    assert record == f"{hashlib.sha256(CONTENT).hexdigest()}  big.bin\n"


@pytest.mark.parametrize(
    "change", [lambda data: data[:-1] + b"x", lambda data: data[:1000], lambda data: b""]
)
def test_a_file_that_changed_since_its_download_is_refused(mirror, tmp_path: Path, change) -> None:
    mirror.put("big.bin", CONTENT)
    path = fetch(mirror, tmp_path / "big.bin")
    path.write_bytes(change(CONTENT))
    with pytest.raises(GSplatLocError, match="checksum in big.bin.sha256.*the file changed"):
        fetch(mirror, path)
    path.unlink()
    assert fetch(mirror, path).read_bytes() == CONTENT


def test_another_file_on_the_server_is_refused_until_that_is_wanted(mirror, tmp_path: Path) -> None:
    mirror.put("big.bin", CONTENT)
    path = fetch(mirror, tmp_path / "big.bin")
    path.unlink()
    mirror.put("big.bin", CONTENT[::-1])
    with pytest.raises(GSplatLocError, match="the file changed"):
        fetch(mirror, path)
    assert not path.exists()
    (tmp_path / "big.bin.sha256").unlink()
    assert fetch(mirror, path).read_bytes() == CONTENT[::-1]


def test_a_file_that_was_put_there_by_hand_is_remembered(mirror, tmp_path: Path) -> None:
    path = tmp_path / "big.bin"
    path.write_bytes(CONTENT)
    fetch(mirror, path)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(GSplatLocError, match="the file changed"):
        fetch(mirror, path)


def test_files_in_a_folder_of_somebody_else_are_used_all_the_same(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "big.bin"
    path.write_bytes(CONTENT)

    def refused(*_: object) -> None:
        raise GSplatLocError("expected to write big.bin.sha256, found: Permission denied")

    monkeypatch.setattr(download_module, "write_text", refused)
    download_module.confirm(path)
    assert [file.name for file in tmp_path.iterdir()] == ["big.bin"]
