"""What is installed with the package: locked versions, hashes, licences."""

import re
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement

from gsplatloc.utils.licences import dependencies, licence

ROOT = Path(__file__).resolve().parents[2]


def read_pins(path: Path) -> dict[str, set[str]]:
    """The pinned versions of every distribution; a marker may choose between several."""
    pins: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;#\\]+)", path.read_text(), re.MULTILINE):
        pins.setdefault(name.lower().replace("_", "-"), set()).add(version)
    return pins


def test_the_lock_has_the_versions_of_the_requirements() -> None:
    wanted, locked = read_pins(ROOT / "requirements.txt"), read_pins(ROOT / "requirements.lock")
    assert len(wanted) > 10
    assert {name: locked.get(name) for name in wanted} == wanted


def test_everything_in_the_lock_has_a_hash_and_nothing_an_address() -> None:
    text = (ROOT / "requirements.lock").read_text()
    blocks = re.findall(r"^[\w.-]+==.*\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", text, re.MULTILINE)
    assert len(blocks) == len(re.findall(r"^[\w.-]+==", text, re.MULTILINE)) > 40
    assert not re.search(r"://|--(extra-)?index|--find-links", text)


def test_the_lock_is_closed() -> None:
    """What a locked distribution requires is locked, too: pip would refuse it otherwise."""
    locked = set(read_pins(ROOT / "requirements.lock"))
    installed = set(dependencies("gsplatloc")) - {"gsplatloc", "gsplatloc-kernels"}
    assert installed <= locked


def test_every_dependency_is_listed_with_its_licence() -> None:
    found = dependencies("gsplatloc")
    direct = [Requirement(text) for text in requires("gsplatloc") or []]
    assert {requirement.name for requirement in direct if not requirement.marker} <= set(found)
    assert all(found.values())
    assert {name for name, distribution in found.items() if licence(distribution) == "not stated"} == set()
    assert licence(found["numpy"]).startswith("BSD-3-Clause")
