"""Files are whole or absent."""

import json
import math
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import atomic_path, read_json, write_json, write_text


def test_the_file_appears_only_when_the_body_ends(tmp_path: Path) -> None:
    target = tmp_path / "map.bin"
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        assert not target.exists()
    assert target.read_bytes() == b"half"


def test_a_failed_body_leaves_the_old_file_untouched(tmp_path: Path) -> None:
    target = tmp_path / "map.bin"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="disk"), atomic_path(target) as temporary:
        temporary.write_bytes(b"new")
        raise RuntimeError("disk")
    assert target.read_bytes() == b"old"


def test_a_failed_body_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "map.bin"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_success_leaves_only_the_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_the_temporary_file_is_beside_the_target(tmp_path: Path) -> None:
    """A rename is atomic only within one file system."""
    with atomic_path(tmp_path / "map.bin") as temporary:
        assert temporary.parent == tmp_path


def test_the_temporary_file_keeps_the_suffix(tmp_path: Path) -> None:
    """Writers such as cv2.imwrite choose the format by it."""
    with atomic_path(tmp_path / "picture.png") as temporary:
        assert temporary.suffix == ".png"


def test_parents_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "text")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "text"


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o007])
def test_the_mode_of_a_file_follows_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a.txt", "text")
        with atomic_path(tmp_path / "a.safetensors") as temporary:
            save_file({"a": np.zeros(3)}, temporary)
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("a.*")}
    assert modes == {0o666 & ~umask}


def test_json_round_trip(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None, True], "b": {"c": "ä"}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value


@pytest.mark.parametrize("number", (math.inf, -math.inf, math.nan))
def test_numbers_that_json_lacks_become_null(tmp_path: Path, number: float) -> None:
    write_json(tmp_path / "a.json", {"deep": [(number,)]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"deep": [[None]]}


def test_a_value_that_cannot_be_written_keeps_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"new": object()})
    assert read_json(tmp_path / "a.json") == {"old": 1}


def test_a_missing_file_is_a_user_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match=r"missing\.json"):
        read_json(tmp_path / "missing.json")


@pytest.mark.parametrize("content", (b'{"a": ', b"\xff\xfe\xfa", b""))
def test_a_broken_file_is_a_user_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.json").write_bytes(content)
    with pytest.raises(GSplatLocError, match=r"broken\.json"):
        read_json(tmp_path / "broken.json")


def test_a_file_system_without_modes_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    write_text(tmp_path / "a.txt", "x")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["x"]
