"""Griffe extension: the comment beside a dataclass field is its documentation.

Fields of options and results are documented by a comment at the end of their line (unit, meaning), in code
and in --help alike. Without this, the Python API would list no field.
"""

import re
from typing import Any

import griffe

_COMMENT = re.compile(r"#\s*(?!type:|noqa|fmt:)(.+)$")


class FieldComments(griffe.Extension):
    """Gives annotated attributes without a docstring the comment on their line."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        if attr.docstring is not None or attr.annotation is None or not attr.lineno:
            return
        lines = attr.lines_collection[attr.filepath]
        found = _COMMENT.search(lines[(attr.endlineno or attr.lineno) - 1])
        text = found[1].strip() if found else " ".join(_comments_above(lines, attr.lineno - 1))
        if text:
            attr.docstring = griffe.Docstring(text, lineno=attr.lineno, parent=attr)


def _comments_above(lines: list[str], index: int) -> list[str]:
    """The comment lines that end right above a line."""
    found: list[str] = []
    while index > 0 and lines[index - 1].lstrip().startswith("#"):
        index -= 1
        found.insert(0, lines[index].lstrip("# ").strip())
    return found
