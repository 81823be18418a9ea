"""The documentation site builds without a warning, and its reference follows from the code."""

import ast
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import gsplatloc

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("command_line", ROOT / "docs" / "hooks" / "command_line.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_has_a_place_for_every_command(hook: ModuleType) -> None:
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    assert set(re.findall(r"<!-- options: gsplatloc ([a-z0-9 -]+) -->", page)) == set(hook.commands())


def test_options_come_from_the_parsers(hook: ModuleType) -> None:
    table = hook.on_page_markdown("<!-- options: gsplatloc localize -->")
    assert "`-m`, `--model_path` `PATH` | required |" in table
    assert re.search(r"`--lm\.\w+", table) and "`--pictures`, `--no_pictures` | `True` |" in table


def test_the_reference_describes_every_public_name() -> None:
    page = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    described = {line.rsplit(".", 1)[1] for line in re.findall(r"^::: (\S+)", page, re.MULTILINE)}
    assert set(gsplatloc.__all__) - {"__version__"} <= described


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    subprocess.run(["make", "build/typed"], cwd=ROOT, check=True, capture_output=True)
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "site" / "tutorials" / "extend" / "index.html").read_text(encoding="utf-8")
    assert "FlowRefiner" in page and "CsvReader" in page


OTHERS_OPTIONS = {
    "--version",
    "--force-reinstall",
    "--no-deps",
    "--require-hashes",
    "--help",
}  # of pip and of every command


def test_every_option_on_a_page_exists(hook: ModuleType) -> None:
    known = {flag for module in hook.commands().values() for flag in hook.options_of(module)}
    folders = [ROOT / "docs" / name for name in ("tutorials", "how-to", "how-it-works")]
    pages = [ROOT / "docs" / "install.md", *(page for folder in folders for page in folder.glob("*.md"))]
    unknown = {
        f"{page.name}: {flag}"
        for page in pages
        for flag in re.findall(r"(?<![\w-])--[a-z][\w.-]*\w", page.read_text(encoding="utf-8"))
        if flag not in known | OTHERS_OPTIONS | {"--NAME"} and not flag.startswith(("--flow.", "--8"))
    }
    assert not unknown


FENCE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PYTHON = [
    (page, block)
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for block in re.findall(
        r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
]


@pytest.mark.parametrize(("page", "block"), PYTHON, ids=[page.stem for page, _ in PYTHON])
def test_python_on_a_page_imports_what_exists(page: Path, block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("gsplatloc"):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)
        named = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if named and node.value.id == "gsplatloc":
            assert node.attr in gsplatloc.__all__
