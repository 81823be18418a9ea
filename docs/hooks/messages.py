"""Writes the messages of all errors into the documentation: MkDocs calls it for every page.

A page asks for the messages of a part of the package by the mark `<!-- messages: scene -->`. They are read
from the source: every message of a `GSplatLocError` is "expected ..., found ...: what to do".
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_MARK = re.compile(r"<!-- messages: (\w+) -->")
_FORM = re.compile(r"expected (?P<expected>.+?),? found (?P<found>.+?)(?:: (?P<action>.+))?", re.DOTALL)
_ERRORS = ("GSplatLocError", "DamagedImageError")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with the messages of each part in the place of its mark."""
    return _MARK.sub(lambda match: table(match[1]), markdown)


def table(part: str) -> str:
    """The messages of a part of the package as Markdown, in the order of the alphabet."""
    rows = sorted({_row(message) for message in messages(part)}, key=str.lower)
    return "\n".join(["| expected | found | what to do |", "| --- | --- | --- |", *rows])


def messages(part: str) -> Iterator[str]:
    """Every message of a part, its variable pieces in capital letters."""
    for path in sorted((ROOT / part).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id="decoding"), args=[expected, _, action, *_]):
                    yield f"expected {_text(expected)} in PATH, found REASON: {_text(action)}"
                case ast.Call(func=ast.Name(id="stored_tensors"), args=[_, expected, action, *_]):
                    yield f"expected {_text(expected)} in PATH, found REASON: {_text(action)}"
                case ast.Call(func=ast.Name(id=name), args=[node, *_]) if name in _ERRORS and _text(node):
                    yield _text(node)


def _text(node: ast.expr) -> str:
    """A message as a user reads it; nothing for one that is made elsewhere."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    values = node.values if isinstance(node, ast.JoinedStr) else []
    return "".join(str(v.value) if isinstance(v, ast.Constant) else _name(v.value) for v in values)  # type: ignore[attr-defined]


def _name(node: ast.expr) -> str:
    """The name of what a message repeats: `{quoted(entry.filename)}` is FILENAME."""
    match node:
        case ast.Name(id="error") | ast.Name(id="reason"):
            return "REASON"
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.strip("_").upper()
        case ast.Call(func=ast.Attribute(attr="join"), args=[argument]) | ast.Starred(value=argument):
            return _name(argument)
        case (
            ast.Call(args=[argument, *_])
            | ast.Subscript(value=argument)
            | ast.Call(func=ast.Attribute(value=argument))
        ):
            return _name(argument)
        case ast.BoolOp(values=[value, *_]) | ast.BinOp(left=value) | ast.IfExp(body=value):
            return _name(value)
        case ast.Constant(value=value):
            return str(value)
    return "…"


def _row(message: str) -> str:
    form = _FORM.fullmatch(" ".join(message.split()))
    cells = (form["expected"], form["found"], form["action"] or "") if form else (message, "", "")
    escaped = (re.sub(r"([|<*])", r"\\\1", cell) for cell in cells)
    return f"| {' | '.join(escaped)} |"
