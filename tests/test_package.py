"""The package as a user imports it: public names, lazily; one version; no script by accident."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest

import gsplatloc
from gsplatloc.utils.errors import GSplatLocError

ROOT = Path(__file__).resolve().parents[1]


def run(*words: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Python with these words, in a folder, importing this checkout."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={"PATH": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", gsplatloc.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(gsplatloc, name) is not None
    assert name in dir(gsplatloc)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'teleport'"):
        gsplatloc.teleport  # noqa: B018
    with pytest.raises(ImportError):
        from gsplatloc import teleport  # noqa: F401


def test_the_package_alone_loads_no_heavy_module() -> None:
    code = "import sys, gsplatloc; print(sorted({'torch', 'cv2', 'numpy'} & set(sys.modules)))"
    assert run("-c", code).stdout == "[]\n"


def test_a_type_checker_sees_the_public_names() -> None:
    """The imports under TYPE_CHECKING are those that `__getattr__` makes."""
    tree = ast.parse(Path(gsplatloc.__file__).read_text(encoding="utf-8"))
    (block,) = [
        node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
    ]
    declared = {
        a.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for a in node.names
    }
    assert declared == gsplatloc._PUBLIC


@pytest.mark.parametrize("folder", ["checkout", "elsewhere"])
def test_the_command_runs_from_any_folder(folder: str, tmp_path: Path) -> None:
    done = run("-m", "gsplatloc", "--version", folder=ROOT if folder == "checkout" else tmp_path)
    assert done.stdout == f"gsplatloc {gsplatloc.__version__}\n", done.stderr


@pytest.mark.parametrize("part", gsplatloc._PARTS)
def test_the_parts_are_those_of_this_checkout(part: str) -> None:
    """Even where an editable install of another checkout is in the environment."""
    found = import_module(f"gsplatloc.{part}").__file__
    assert found and Path(found).resolve() == ROOT / part / "__init__.py"


@pytest.mark.parametrize("name", ["train", "render", "view", "setup", "benchmarks", "tests", "gsplatloc"])
def test_a_file_beside_the_package_is_no_part_of_it(name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=f"gsplatloc.{name}"):
        __import__(f"gsplatloc.{name}")
    assert not hasattr(gsplatloc, name) or callable(getattr(gsplatloc, name))


def test_the_parts_are_the_same_everywhere() -> None:
    listed = ast.literal_eval(
        re.findall(r"^FOLDERS = (\(.*?\))", (ROOT / "setup.py").read_text(), re.MULTILINE | re.DOTALL)[0]
    )
    linked = re.findall(r"^FOLDERS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split()
    assert gsplatloc._PARTS == listed == tuple(linked)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Four images of noise in blocks, 64 x 48, in the posed-folder layout."""
    draws, folder = np.random.default_rng(0), tmp_path / "scene"
    for name in ("rgb", "poses", "calibration"):
        (folder / "train" / name).mkdir(parents=True)
    for index in range(4):
        blocks = draws.integers(0, 255, (6, 8, 3)).astype(np.uint8)
        image = cv2.resize(blocks, (64, 48), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(folder / "train" / "rgb" / f"{index}.png"), image)
        pose = np.eye(4)
        pose[0, 3] = 0.1 * index
        np.savetxt(folder / "train" / "poses" / f"{index}.txt", pose)
        np.savetxt(folder / "train" / "calibration" / f"{index}.txt", [60.0])
    return folder


def test_a_scene_is_mapped_in_one_call(scene: Path, tmp_path: Path) -> None:
    pytest.importorskip("gsplatloc_kernels")
    report = gsplatloc.train(scene, tmp_path / "map", iterations=2, quiet=True)
    assert report.completed and report.iteration == 2
    assert list((tmp_path / "map" / "point_cloud").glob("iteration_*/point_cloud.ply"))


def test_a_folder_without_a_scene_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="expected"):
        gsplatloc.train(tmp_path / "nowhere", tmp_path / "map")
    with pytest.raises(GSplatLocError, match="expected"):
        gsplatloc.track(tmp_path / "nowhere", tmp_path / "map")
