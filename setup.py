"""What pyproject.toml cannot say: which folders are the package, and where the native kernels come from.

From a checkout, `pip install .` builds the kernels of the same checkout. An sdist does not hold them: a wheel
made from it (`python -m build`) asks for the released distribution `gsplatloc-kernels` of its own version.
"""

import tomllib
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
KERNELS = ROOT / "submodules" / "diff-gaussian-rasterization"
FOLDERS = (
    "arguments", "datasets", "gaussian_renderer", "localization", "mapping", "scene", "tracking", "utils",
    "visualization",
)  # fmt: skip

project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
kernels = (
    f"gsplatloc-kernels @ {KERNELS.as_uri()}"
    if (KERNELS / "pyproject.toml").is_file()
    else f"gsplatloc-kernels=={project['project']['version']}"
)
packages = ["gsplatloc", "gsplatloc.cli"]
for folder in FOLDERS:
    inner = find_packages(str(ROOT / folder))
    packages += [f"gsplatloc.{folder}", *(f"gsplatloc.{folder}.{name}" for name in inner)]

setup(
    packages=packages,
    package_dir={f"gsplatloc.{folder}": folder for folder in FOLDERS} | {"gsplatloc": "gsplatloc"},
    install_requires=[*project["tool"]["gsplatloc"]["dependencies"], kernels],
)
