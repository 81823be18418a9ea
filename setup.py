"""How the distribution `gsplatloc` is built: its subpackages are the folders beside this file.

pyproject.toml names this module as the build backend (PEP 517). It is setuptools' backend with one addition:
while `pip install .` looks for `gsplatloc-kernels==VERSION`, which may be on no package index, the metadata
given to pip name the kernels' sources in the same checkout instead. The wheel itself keeps the requirement by
version, so that the wheels of both distributions can be installed together, and on another machine. PEP 517
asks for identical metadata in both places; pip and uv do not check it (tests/packaging checks that it works).
"""

import shutil
from pathlib import Path
from typing import Any

from setuptools import build_meta, find_packages, setup
from setuptools.build_meta import (
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
)

# The hooks of a build backend; those imported stay as they are.
__all__ = [
    "build_editable", "build_sdist", "build_wheel", "get_requires_for_build_editable",
    "get_requires_for_build_sdist", "get_requires_for_build_wheel", "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]  # fmt: skip

ROOT = Path(__file__).resolve().parent
KERNELS = ROOT / "submodules" / "diff-gaussian-rasterization"
FOLDERS = (
    "arguments", "datasets", "gaussian_renderer", "localization", "mapping", "reproduction", "scene",
    "tracking", "utils", "visualization",
)  # fmt: skip

Settings = dict[str, Any] | None


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: Settings = None) -> str:
    """PEP 517: metadata for `pip install .`."""
    name = build_meta.prepare_metadata_for_build_wheel(metadata_directory, config_settings)
    return _require_kernels_of_checkout(metadata_directory, name)


def prepare_metadata_for_build_editable(metadata_directory: str, config_settings: Settings = None) -> str:
    """PEP 660: metadata for `pip install -e .`."""
    name = build_meta.prepare_metadata_for_build_editable(metadata_directory, config_settings)
    return _require_kernels_of_checkout(metadata_directory, name)


def build_wheel(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """PEP 517: the wheel, with the metadata of pyproject.toml."""
    # Else modules that were deleted are built again.
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)
    return build_meta.build_wheel(wheel_directory, config_settings)


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """PEP 660: the wheel of an editable install, with the metadata of pyproject.toml."""
    return build_meta.build_editable(wheel_directory, config_settings)


def _require_kernels_of_checkout(metadata_directory: str, name: str) -> str:
    """Let the requirement on the kernels point to this checkout; an sdist does not hold their sources."""
    if (KERNELS / "pyproject.toml").is_file():
        # pip caches the wheel of a URL that ends like "name-version", as this folder's name does, and would
        # install it again after the sources have changed. "/." prevents that.
        checkout = f"Requires-Dist: gsplatloc-kernels @ {KERNELS.as_uri()}/."
        path = Path(metadata_directory) / name / "METADATA"
        lines = path.read_text(encoding="utf-8").split("\n")
        lines = [checkout if line.startswith("Requires-Dist: gsplatloc-kernels") else line for line in lines]
        path.write_text("\n".join(lines), encoding="utf-8")
    return name


def _packages() -> list[str]:
    packages = ["gsplatloc", "gsplatloc.cli"]
    for folder in FOLDERS:
        inner = find_packages(str(ROOT / folder))
        packages += [f"gsplatloc.{folder}", *(f"gsplatloc.{folder}.{name}" for name in inner)]
    return packages


if __name__ == "__main__":
    setup(
        packages=_packages(),
        package_dir={f"gsplatloc.{folder}": folder for folder in FOLDERS} | {"gsplatloc": "gsplatloc"},
    )
