"""The shape of the repository: who imports whom, and what nobody may do."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# each may import those before it
LAYERS = ["utils", "scene", "gaussian_renderer", "localization", "mapping", "tracking"]
ALLOWED = {layer: set(LAYERS[: i + 1]) for i, layer in enumerate(LAYERS)} | {
    "visualization": {*LAYERS, "visualization"},
    "arguments": {*LAYERS, "arguments"},
    "datasets": {"utils", "scene", "datasets"},
}
OURS = set(ALLOWED)
SOURCES = [path for folder in sorted(OURS) for path in sorted((ROOT / folder).rglob("*.py"))]


def imported_modules(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    folder = path.relative_to(ROOT).parts[0]
    ours = (name.removeprefix("gsplatloc.") for name in imported_modules(path) if "gsplatloc." in name)
    imported = {name.split(".")[0] for name in ours} & OURS
    assert imported <= ALLOWED[folder], f"{folder} may not import {sorted(imported - ALLOWED[folder])}"


def test_only_the_renderer_imports_the_native_package() -> None:
    users = [p for p in SOURCES if "gsplatloc_kernels" in " ".join(imported_modules(p))]
    assert [str(p.relative_to(ROOT)) for p in users] == ["gaussian_renderer/native.py"]


def test_nothing_imports_torchvision_or_pickle() -> None:
    banned = {"torchvision", "pickle"}
    scripts = [*ROOT.glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
    found = {str(p) for p in [*SOURCES, *scripts] if {n.split(".")[0] for n in imported_modules(p)} & banned}
    assert not found


def test_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
