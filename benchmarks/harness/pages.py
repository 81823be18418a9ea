"""Tables in Markdown, and their places in the documentation: between two marks of a page."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.harness import ROOT
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import write_text

NONE = "–"  # a cell without a figure


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; nothing without rows."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) if len(lines) > 2 else ""


def number(value: float | None, digits: int = 0, factor: float = 1.0, unit: str = "") -> str:
    return NONE if value is None else f"{factor * value:.{digits}f}{unit}"


def percent(share: float | None, digits: int = 1) -> str:
    return number(share, digits, 100.0, " %")


def error_text(
    metres: float | None, degrees: float | None, digits: int = 3, extent: float | None = None
) -> str:
    """Centimetres and degrees; percent of the `extent` of the camera path in a scene that is not metric."""
    if metres is None or degrees is None:
        return NONE
    length = f"{100 * metres:.{digits}f} cm" if extent is None else f"{100 * metres / extent:.4f} %"
    return f"{length} / {degrees:.3f}°"


def marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def put_between_marks(page: Path, name: str, text: str) -> None:
    """Replace what a page holds between the two marks of `name`."""
    begin, end = marks(name)
    found = page.read_text(encoding="utf-8")
    if found.count(begin) != 1 or found.count(end) != 1:
        raise GSplatLocError(f"expected one '{begin}' and one '{end}' in {page}: put them back")
    head, _, rest = found.partition(begin)
    write_text(page, f"{head}{begin}\n\n{text.strip()}\n\n{end}{rest.partition(end)[2]}")


def publish(texts: Mapping[str, str], root: Path = ROOT) -> list[Path]:
    """Put each text between its marks, on every page of the documentation that has them.

    Raises `GSplatLocError` where no page has any of the marks.
    """
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    written = []
    for page in pages:
        content = page.read_text(encoding="utf-8") if page.is_file() else ""
        for name in [name for name in texts if marks(name)[0] in content]:
            put_between_marks(page, name, texts[name])
            written.append(page)
    if not written:
        raise GSplatLocError(f"expected a page with '{marks(next(iter(texts)))[0]}', found none: put it back")
    return written
