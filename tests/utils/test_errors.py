"""Errors of damaged files: one short line, whatever the file holds and whatever its decoder raises."""

import errno
from pathlib import Path

import pytest

from gsplatloc.scene.image_header import DamagedImageError
from gsplatloc.utils.errors import GSplatLocError, decoding, quoted, require_known


@pytest.mark.parametrize(
    "text", ["a\nb", "a\x1b[31mb", "a\x00b", "a\udce9b", "a\u2028b", "x" * 10_000, "\x00" * 10_000]
)
def test_a_message_is_one_short_printable_line(text: str) -> None:
    for message in (str(GSplatLocError(f"expected {text}: correct it")), quoted(text)):
        assert message.isprintable() and len(message) < 1100


def test_what_a_message_quotes_of_a_file_is_short() -> None:
    assert quoted("x" * 1000).startswith("xxx") and len(quoted("x" * 1000)) < 300
    assert len(quoted("\x00" * 1000)) < 300


@pytest.mark.parametrize(
    "error,found",
    [
        (KeyError("means"), "no 'means'"),
        (StopIteration(), "that it ends early"),
        (MemoryError(), "too little memory"),
        (RecursionError("too deep"), "too deep"),
        (NotImplementedError(), "NotImplementedError"),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), "bad"),
        (OSError(errno.EISDIR, "is a folder"), "is a folder"),
        (ZeroDivisionError("division"), "division"),
    ],
)
def test_what_a_decoder_raises_names_the_file(error: Exception, found: str) -> None:
    message = f"expected a map in a.bin, found .*{found}.*: restore it"
    with pytest.raises(GSplatLocError, match=message), decoding("a map", Path("a.bin"), "restore it"):
        raise error


def test_errors_that_name_the_file_pass_unchanged() -> None:
    with pytest.raises(DamagedImageError, match="^ours$"), decoding("a map", "a.bin", "restore it"):
        raise DamagedImageError("ours", "half an image")


def test_a_full_disk_is_no_damaged_file() -> None:
    with pytest.raises(OSError, match="full"), decoding("an archive", "a.zip", "delete it"):
        raise OSError(errno.ENOSPC, "full")


def test_the_first_unknown_name_is_refused_with_all_known_ones() -> None:
    require_known("colours", ["red", "blue"], {"red": 1, "blue": 2}, "choose one")
    with pytest.raises(GSplatLocError, match="out of red, blue, found 'pink': choose one$"):
        require_known("colours", ["red", "pink", "grey"], ("red", "blue"), "choose one")
