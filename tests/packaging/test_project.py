"""What the project says of itself in more than one file is the same, and what pip is told in a checkout."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.packaging.conftest import NATIVE, ROOT


def project(folder: Path) -> dict[str, Any]:
    return dict(tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"])


def test_both_distributions_have_one_version_and_one_range_of_pythons() -> None:
    ours, kernels = project(ROOT), project(NATIVE)
    assert kernels["version"] == ours["version"]
    assert kernels["requires-python"] == ours["requires-python"]
    assert f"gsplatloc-kernels=={ours['version']}" in ours["dependencies"]
    assert f"version: {ours['version']}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_both_distributions_accept_the_same_torch() -> None:
    ranges = [[line for line in project(folder)["dependencies"] if line.startswith("torch")]
              for folder in (ROOT, NATIVE)]  # fmt: skip
    assert ranges[0] == ranges[1] and len(ranges[0]) == 1


def test_every_dependency_is_pinned_within_its_range() -> None:
    required = [Requirement(line) for line in project(ROOT)["dependencies"]]
    ranges = {each.name: each.specifier for each in required if each.name != "gsplatloc-kernels"}
    lines = [line.split("#")[0] for line in (ROOT / "requirements.txt").read_text().splitlines()]
    pins = dict(line.strip().split("==") for line in lines if line.strip())
    assert pins.keys() == ranges.keys()
    assert [name for name, version in pins.items() if version not in ranges[name]] == []


def test_extras_install_every_pinned_tool_of_a_developer() -> None:
    extras = project(ROOT)["optional-dependencies"]
    assert all(extras.values())  # none is empty
    required = [Requirement(line) for lines in extras.values() for line in lines]
    ranges = {each.name: each.specifier for each in required}
    lines = [re.split("[;#]", line)[0] for line in (ROOT / "requirements-dev.txt").read_text().splitlines()]
    pins = dict(line.strip().split("==") for line in lines if "==" in line)
    del pins["small_gicp"]  # peer of a benchmark
    assert pins.keys() == ranges.keys() - {"ray"}  # of 80 MB: its test runs where it is installed
    assert [name for name, version in pins.items() if version not in ranges[name]] == []


@pytest.mark.parametrize("hook", ["prepare_metadata_for_build_wheel", "prepare_metadata_for_build_editable"])
def test_a_checkout_offers_its_own_kernels_to_pip(hook: str, tmp_path: Path) -> None:
    call = f"import setup; print(setup.{hook}({str(tmp_path)!r}))"
    finished = subprocess.run(
        [sys.executable, "-c", call], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    lines = next(tmp_path.glob("*.dist-info/METADATA")).read_text().splitlines()
    found = [line for line in lines if "gsplatloc-kernels" in line]
    assert found == [f"Requires-Dist: gsplatloc-kernels @ {NATIVE.as_uri()}/."]
