"""The page of messages: made from the source, and the hand-written part names messages that exist."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-to" / "troubleshooting.md").read_text(encoding="utf-8")
MARKS = re.findall(r"<!-- messages: (\w+) -->", PAGE)


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("messages", ROOT / "docs" / "hooks" / "messages.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_part_with_messages_is_on_the_page(hook: ModuleType) -> None:
    others = {"tests", "benchmarks", "examples", "docs", "submodules", "build", "output", "dist"}
    folders = [path for path in ROOT.iterdir() if path.is_dir() and path.name not in others]
    parts = {path.name for path in folders if not path.name.startswith(".") and any(hook.messages(path.name))}
    assert set(MARKS) == parts
    assert "<!-- messages" not in hook.on_page_markdown(PAGE)


def test_a_message_is_split_into_what_was_expected_what_was_found_and_what_to_do(hook: ModuleType) -> None:
    assert hook._row("expected JSON in PATH, found REASON: restore the file").split(" | ") == [
        "| JSON in PATH", "REASON", "restore the file |"
    ]  # fmt: skip
    assert "| a file at ADDRESS | REASON | check the connection" in hook.table("datasets")
    assert "| a checkpoint in PATH | REASON | check --start_checkpoint |" in hook.table("scene")


def test_nearly_every_message_says_what_to_do(hook: ModuleType) -> None:
    rows = [row for part in MARKS for row in hook.table(part).splitlines()[2:]]
    assert len(rows) > 150
    assert len([row for row in rows if row.endswith("|  |")]) < len(rows) / 3


def test_the_frequent_messages_exist(hook: ModuleType) -> None:
    frequent = re.findall(r"^\| expected ([^|]+?) \|", PAGE.partition("## Every message")[0], re.MULTILINE)
    known = [row for part in MARKS for row in hook.table(part).splitlines()]
    assert len(frequent) >= 7
    for text in frequent:
        pieces = re.split(r",? found |\b[A-Z]{1,}\b|…", text)
        words = next(piece.strip() for piece in pieces if len(piece.strip()) > 4)
        assert any(words in row for row in known), text
