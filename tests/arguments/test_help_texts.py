"""Help texts of the command lines, which tyro takes from the docstrings of fields."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_no_help_text_has_a_line_break() -> None:
    """tyro keeps those of docstrings, wherever the terminal wraps the text."""
    torn = [
        f"{file.name}: {field.target.id}"
        for file in sorted((ROOT / "arguments").glob("*.py"))
        for owner in ast.walk(ast.parse(file.read_text()))
        if isinstance(owner, ast.ClassDef)
        for field, text in zip(owner.body, owner.body[1:])
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
        if "\n" in str(text.value.value)
    ]
    assert not torn
