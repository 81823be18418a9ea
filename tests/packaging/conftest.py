"""Both wheels, built from this checkout and installed into a fresh environment."""

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "submodules" / "diff-gaussian-rasterization"
OURS = ("gsplatloc", "__editable__", "_gsplatloc")  # what a development install leaves in site-packages


@dataclass(frozen=True)
class Installation:
    """An environment that holds the two wheels and reads their dependencies from the running environment."""

    folder: Path  # of the environment
    gsplatloc: Path  # the wheel
    kernels: Path  # the wheel

    def run(self, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in the folder `cwd`, without a path to this checkout."""
        program = str(self.folder / "bin" / command[0])
        return subprocess.run(
            [program, *command[1:]], cwd=cwd, env=_environment(), capture_output=True, text=True, check=False
        )


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Without a network: build tools and dependencies are those of requirements-dev.txt, already here."""
    pytest.importorskip("scikit_build_core", reason="pip install -r requirements-dev.txt")
    folder = tmp_path_factory.mktemp("installation")
    wheels, environment = folder / "wheels", folder / "environment"
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "-w", str(wheels)]
    # The objects of `make setup` are used again: compiling them takes most of a minute.
    objects = f"build-dir={ROOT}/build/{{wheel_tag}}"
    _pip("wheel", *offline, str(ROOT))
    _pip("wheel", *offline, "--config-settings", objects, str(NATIVE))
    venv.create(environment)
    site_packages = next((environment / "lib").glob("python*")) / "site-packages"
    (site_packages / "dependencies.pth").write_text(str(_dependencies(folder / "dependencies")))
    built = sorted(wheels.iterdir())
    _pip("--python", str(environment / "bin" / "python"), "install", "--no-index", *map(str, built))
    return Installation(environment, *built)


def _dependencies(folder: Path) -> Path:
    """A folder of links to everything in the running environment's site-packages but our own packages."""
    folder.mkdir()
    for path in (Path(entry) for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")):
        for package in path.iterdir():
            link = folder / package.name
            if not package.name.startswith(OURS) and package.suffix != ".pth" and not link.exists():
                link.symlink_to(package)
    return folder


def _environment() -> dict[str, str]:
    """The variables without a path to this checkout, whose metadata pip would take for an installation."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    finished = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)
    assert finished.returncode == 0, f"{' '.join(command)}\n{finished.stdout}\n{finished.stderr}"
