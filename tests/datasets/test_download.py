"""Downloads: resuming, refusing and never passing off a part as the whole."""

import os
from pathlib import Path

import pytest

from gsplatloc.datasets.download import download
from gsplatloc.utils.errors import GSplatLocError

CONTENT = os.urandom(300_000)


def fetch(mirror, path: Path) -> Path:  # type: ignore[no-untyped-def]
    return download(f"{mirror.address}/big.bin", path, retry_wait_s=0.0)


def test_a_file_arrives_whole_and_leaves_no_part(mirror, tmp_path: Path) -> None:
    mirror.put("big.bin", CONTENT)
    path = fetch(mirror, tmp_path / "out" / "big.bin")
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ["big.bin"]


def test_a_cut_connection_is_continued_where_it_was_cut(mirror, tmp_path: Path) -> None:
    mirror.put("big.bin", CONTENT)
    mirror.cut_after = 100_000
    assert fetch(mirror, tmp_path / "big.bin").read_bytes() == CONTENT
    assert [wanted for _, wanted in mirror.requests] == [None, "bytes=100000-"]


def test_the_part_of_a_killed_run_is_continued(mirror, tmp_path: Path) -> None:
    mirror.put("big.bin", CONTENT)
    (tmp_path / "big.bin.part").write_bytes(CONTENT[:1234])
    assert fetch(mirror, tmp_path / "big.bin").read_bytes() == CONTENT
    assert mirror.requests[0][1] == "bytes=1234-"


def test_a_part_that_was_already_whole_is_taken(mirror, tmp_path: Path) -> None:
    mirror.put("big.bin", CONTENT)
    (tmp_path / "big.bin.part").write_bytes(CONTENT)
    assert fetch(mirror, tmp_path / "big.bin").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_started_over(mirror, tmp_path: Path) -> None:
    mirror.put("big.bin", CONTENT)
    (tmp_path / "big.bin.part").write_bytes(CONTENT + b"of an older version")
    assert fetch(mirror, tmp_path / "big.bin").read_bytes() == CONTENT


def test_a_server_without_ranges_starts_over(mirror, tmp_path: Path) -> None:
    mirror.put("big.bin", CONTENT)
    mirror.ranges = False
    (tmp_path / "big.bin.part").write_bytes(CONTENT[:1234])
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


def test_an_address_that_is_none_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="unknown url type"):
        download("my-mirror/big.bin", tmp_path / "big.bin")


def test_a_server_that_is_not_there_is_given_up_on(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="check the connection"):
        download("http://127.0.0.1:9/none", tmp_path / "none", retry_wait_s=0.0)
