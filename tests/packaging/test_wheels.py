"""The two wheels: what they hold, and that a room can be mapped and localized with nothing else of ours."""

import json
import zipfile
from pathlib import Path

import pytest

from tests.packaging.conftest import NATIVE, ROOT, Installation

# The folders of the repository that `gsplatloc` consists of.
FOLDERS = (
    "arguments", "datasets", "gaussian_renderer", "localization", "mapping", "reproduction", "scene",
    "tracking", "utils", "visualization",
)  # fmt: skip

LOCALIZE = """
import importlib.util, json, pathlib, sys
import cv2
import gsplatloc
from gsplatloc.scene.map_config import read_config

for name in ("train", "benchmarks", "tests", *{folders!r}):
    assert importlib.util.find_spec(name) is None, name
scene = gsplatloc.read_scene("room")
view = scene.test[0]
image = cv2.cvtColor(cv2.imread(str(view.image_path)), cv2.COLOR_BGR2RGB)
localizer = gsplatloc.Localizer.load("map")
found = localizer.localize(image, view.camera).final
error = (found.cam_from_world - view.cam_from_world).abs().max()
print(json.dumps({{"file": gsplatloc.__file__, "status": found.status, "error": float(error)}}))
"""


def names(wheel: Path) -> set[str]:
    """The files of a wheel, less its metadata."""
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def metadata(wheel: Path) -> str:
    archive = zipfile.ZipFile(wheel)
    return archive.read(next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))).decode()


def test_the_wheel_holds_every_module_below_gsplatloc_and_nothing_else(installation: Installation) -> None:
    expected = {"gsplatloc/py.typed", "gsplatloc/localization/splat_descriptors/weights.safetensors"}
    expected |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "gsplatloc").rglob("*.py")}
    for folder in FOLDERS:
        modules = (ROOT / folder).rglob("*.py")
        expected |= {f"gsplatloc/{path.relative_to(ROOT).as_posix()}" for path in modules}
    assert names(installation.gsplatloc) == expected


def test_every_module_folder_of_the_repository_is_named_here() -> None:
    beside = {"gsplatloc", "benchmarks", "examples", "tests", "docs"}
    modules = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert modules - beside == set(FOLDERS) - beside


def test_the_kernels_wheel_holds_its_modules_and_the_extension(installation: Installation) -> None:
    package = NATIVE / "gsplatloc_kernels"
    expected = {
        f"gsplatloc_kernels/{path.name}" for path in package.iterdir() if path.suffix in (".py", ".typed")
    }
    found = names(installation.kernels)
    extensions = {name for name in found if name.endswith(".so")}
    assert found - extensions == expected
    assert {name.split("/")[1].split(".")[0] for name in extensions} - {"_cuda"} == {"_core"}


def test_the_extension_is_linked_against_no_torch(installation: Installation) -> None:
    archive = zipfile.ZipFile(installation.kernels)
    extensions = [name for name in archive.namelist() if name.endswith(".so")]
    assert extensions
    for name in extensions:
        binary = archive.read(name)
        assert not any(library in binary for library in (b"libtorch", b"libc10"))


@pytest.mark.parametrize("distribution", ["gsplatloc", "kernels"])
def test_both_wheels_hold_the_licence(installation: Installation, distribution: str) -> None:
    archive = zipfile.ZipFile(getattr(installation, distribution))
    licence = next(name for name in archive.namelist() if name.endswith("dist-info/licenses/LICENSE"))
    assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()


def test_the_wheel_requires_the_kernels_by_version(installation: Installation) -> None:
    """A path would tie the wheel to this machine, and pip refuses it beside the kernels' own wheel."""
    lines = [line for line in metadata(installation.gsplatloc).splitlines() if "gsplatloc-kernels" in line]
    assert len(lines) == 1 and lines[0].startswith("Requires-Dist: gsplatloc-kernels==")


def test_a_room_is_mapped_and_localized_with_the_command_and_from_python(
    installation: Installation, tmp_path: Path
) -> None:
    size = "--width 160 --height 128 --train 16 --test 2 --arc 0.2"
    for command in (
        f"setup room --output room {size}",
        "train -s room -m map --preset cpu --iterations 60",
        "localize -m map",
    ):
        finished = installation.run("gsplatloc", *command.split(), cwd=tmp_path)
        assert finished.returncode == 0, f"gsplatloc {command}\n{finished.stdout}\n{finished.stderr}"
    final = json.loads((tmp_path / "map" / "localization" / "metrics.json").read_text())["final"]
    assert final["recall"]["5cm_5deg"] == 1.0

    finished = installation.run("python", "-c", LOCALIZE.format(folders=FOLDERS), cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert Path(found["file"]).is_relative_to(installation.folder)
    assert found["status"] == "ok" and found["error"] < 0.05


def test_the_module_is_the_command(installation: Installation, tmp_path: Path) -> None:
    said = installation.run("python", "-m", "gsplatloc", "--version", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert said.stdout == installation.run("gsplatloc", "--version", cwd=tmp_path).stdout
