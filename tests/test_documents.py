"""Links within the project lead to files and headings that exist; the site's index lists every page."""

import re
import unicodedata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "examples").glob("*.md")), *PAGES]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def name(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


def without_code(text: str) -> str:
    """Markdown without fenced blocks and code in lines: what looks like a link there is none."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors(document: Path) -> set[str]:
    """The ids of a page's headings, as Python-Markdown makes them."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    return {slug(heading) for heading in headings}


def slug(heading: str) -> str:
    plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_to_files_and_headings(document: Path) -> None:
    lost = []
    for link in LINK.findall(without_code(document.read_text(encoding="utf-8"))):
        path, _, anchor = link.partition("#")
        target = (document.parent / path) if path else document
        missing = not target.exists() or (anchor and anchor not in anchors(target))
        if "://" not in link and missing:
            lost.append(link)
    assert not lost


@pytest.mark.parametrize("document", PAGES, ids=name)
def test_pages_link_only_to_what_the_site_holds(document: Path) -> None:
    targets = (link.partition("#")[0] for link in LINK.findall(without_code(document.read_text())))
    outside = [
        target
        for target in targets
        if "://" not in target and not (document.parent / target).resolve().is_relative_to(ROOT / "docs")
    ]
    assert not outside


def test_the_index_of_the_site_lists_every_page_once() -> None:
    listed = re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(page.relative_to(ROOT / "docs").as_posix() for page in PAGES)
