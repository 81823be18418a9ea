"""The shape of the repository: who imports whom, what is in one file, and what nobody may do."""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gsplatloc.localization import fallback
from gsplatloc.localization.features import DEFAULT_EXTRACTOR, EXTRACTORS
from gsplatloc.localization.initial import DEFAULT_INITIAL, INITIAL_POSES
from gsplatloc.localization.matching.images import IMAGE_MATCHERS
from gsplatloc.localization.options import DEFAULT_STAGES
from gsplatloc.localization.refine import REFINERS
from gsplatloc.scene.formats import SPLAT_FORMATS
from gsplatloc.scene.readers import READERS
from gsplatloc.utils.registry import Entry

ROOT = Path(__file__).resolve().parents[1]
# Each folder may import itself and those before it.
LAYERS = ["utils", "scene", "gaussian_renderer", "localization", "mapping", "tracking"]
ALLOWED = {layer: set(LAYERS[: i + 1]) for i, layer in enumerate(LAYERS)} | {
    "visualization": {*LAYERS, "visualization"},
    "datasets": {"utils", "scene", "datasets"},
    "reproduction": {*LAYERS, "visualization", "datasets", "reproduction"},
    "arguments": {*LAYERS, "datasets", "reproduction", "arguments"},
}
ALLOWED["gsplatloc"] = {
    *ALLOWED,
    "api",
    "cli",
}  # the commands and the public functions: imported by scripts only
# Likewise within localization/. `matching` is nearest-neighbour search; matchers of images are another part.
PARTS = [
    "matching", "features", "result", "queries", "matching.images", "pose", "landmarks", "alignment",
    "splat_descriptors", "refine", "initial", "options", "verification", "fallback", "quarter_turns",
    "localizer", "tiles", "evaluation", "io",
]  # fmt: skip
MOST_FILES = 12  # of a folder of localization/
SOURCES = [path for folder in sorted(ALLOWED) for path in sorted((ROOT / folder).rglob("*.py"))]
LOCALIZATION = [path for path in SOURCES if path.is_relative_to(ROOT / "localization")]
SCRIPTS = sorted(ROOT.glob("*.py"))
EVERYTHING = [
    *SOURCES,
    *SCRIPTS,
    *(p for f in ("benchmarks", "examples", "tests") for p in (ROOT / f).rglob("*.py")),
]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_modules(path: Path) -> Iterator[str]:
    """Modules by their full names; `from package import name` also counts as `package.name`."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_folders(path: Path) -> set[str]:
    names = (name.split(".") for name in imported_modules(path) if name.startswith("gsplatloc."))
    return {name[1] for name in names} & {*ALLOWED, "api", "cli"}


def part_of(module: str) -> str | None:
    """The part of localization/ that a module belongs to, `matching.images` before `matching`."""
    name = module.removeprefix("gsplatloc.localization.")
    if name == module:
        return None
    return max((part for part in PARTS if f"{name}.".startswith(f"{part}.")), key=len, default=None)


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_imports_point_down(path: Path) -> None:
    folder = path.relative_to(ROOT).parts[0]
    wrong = imported_folders(path) - ALLOWED[folder]
    assert not wrong, f"{folder} may not import {sorted(wrong)}"


@pytest.mark.parametrize("path", LOCALIZATION, ids=relative)
def test_imports_within_localization_point_down(path: Path) -> None:
    module = ".".join(("gsplatloc", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    own = part_of(module)
    if own is None:
        assert path == ROOT / "localization" / "__init__.py", f"{relative(path)} belongs to none of {PARTS}"
        return
    below = PARTS[: PARTS.index(own) + 1]
    wrong = {part for name in imported_modules(path) if (part := part_of(name)) and part not in below}
    assert not wrong, f"localization.{own} may not import {sorted(wrong)}"


@pytest.mark.parametrize("path", SCRIPTS, ids=relative)
def test_a_script_only_calls_its_command(path: Path) -> None:
    if path.name == "setup.py":
        return
    assert [name for name in imported_modules(path) if not name.startswith("gsplatloc.")] == []
    assert len(path.read_text().splitlines()) <= 8


def test_no_folder_of_localization_is_crowded() -> None:
    folders = {path.parent for path in LOCALIZATION}
    crowded = {relative(f): count for f in folders if (count := len(list(f.glob("*.py")))) > MOST_FILES}
    assert not crowded


def test_every_module_says_what_it_is() -> None:
    silent = [
        relative(path) for path in [*SOURCES, *SCRIPTS] if len(ast.get_docstring(tree(path)) or "") < 20
    ]
    assert not silent


FAMILIES = {
    "localization/initial/": INITIAL_POSES,
    "localization/refine/": REFINERS,
    "localization/features/": EXTRACTORS,
    "localization/matching/images/": IMAGE_MATCHERS,
    "scene/formats/": SPLAT_FORMATS,
    "scene/readers/": READERS,
}


def file_of(entry: Entry[Any]) -> str:
    """The file that registers a member of a family."""
    return entry.make.__module__.removeprefix("gsplatloc.").replace(".", "/") + ".py"


@pytest.mark.parametrize("folder", FAMILIES)
def test_a_member_of_a_family_is_a_file_in_its_folder(folder: str) -> None:
    assert all(file_of(entry).startswith(folder) for entry in FAMILIES[folder].entries())


@pytest.mark.parametrize("folder", [f for f in FAMILIES if f.startswith("localization")])
def test_a_members_name_is_written_where_it_is_declared_and_in_defaults_only(folder: str) -> None:
    """What else is to know of a method follows from the registry: stages, options, flags, help."""
    names = set(FAMILIES[folder].names())
    defaults = {
        f"{folder}members.py": names,
        "localization/refine/members.py": {"mutual"} | (names if folder.endswith("refine/") else set()),
        "localization/options.py": {*DEFAULT_STAGES},
        "localization/fallback.py": {*fallback.REFINEMENTS, fallback.INITIAL},
        "localization/initial/__init__.py": {DEFAULT_INITIAL},
        "localization/features/__init__.py": {DEFAULT_EXTRACTOR},
        "localization/matching/images/lightglue.py": {"xfeat", "disk"},  # one network for each
        "arguments/refinement.py": {"gscpr"},  # the default of refine_poses.py
    }
    files = {entry.name: file_of(entry) for entry in FAMILIES[folder].entries()}
    found = {}
    for path in SOURCES:
        words = {node.value for node in ast.walk(tree(path)) if isinstance(node, ast.Constant)}
        named = {name for name, file in files.items() if name in words and file != relative(path)}
        if relative(path).startswith(("localization/", "arguments/", "gsplatloc/")) and named:
            found[relative(path)] = named - defaults.get(relative(path), set())
    assert not {path: names for path, names in found.items() if names}


def test_only_the_renderer_imports_the_native_package() -> None:
    users = [
        path for path in SOURCES if any(n.startswith("gsplatloc_kernels") for n in imported_modules(path))
    ]
    assert [relative(path) for path in users] == ["gaussian_renderer/native.py"]


def test_pycolmap_is_imported_in_one_place() -> None:
    """Where its signal handlers are removed."""
    users = [path for path in SOURCES if "pycolmap" in {n.split(".")[0] for n in imported_modules(path)}]
    assert [relative(path) for path in users] == ["utils/colmap.py"]


def test_nothing_imports_torchvision_or_pickle() -> None:
    banned = {"torchvision", "pickle"}
    found = {relative(p) for p in EVERYTHING if {name.split(".")[0] for name in imported_modules(p)} & banned}
    assert not found


def test_nothing_changes_the_import_path() -> None:
    banned = re.compile(r"sys\.path\.(insert|append|extend)|sys\.path\s*[+=\[]|noqa: E402")
    found = [relative(p) for p in EVERYTHING if p != Path(__file__) and banned.search(p.read_text())]
    assert not found


def test_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
