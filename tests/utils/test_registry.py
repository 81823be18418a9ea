"""Families of members: a toy family in a package of its own, and plugins of other people."""

import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from gsplatloc.utils import registry
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.registry import NoOptions, Registry, check_settings, import_plugin

PLUGIN = (
    'from toys import TOYS\n\n@TOYS.register("{name}", help="of a plugin")\ndef make(options):\n    pass\n'
)


@dataclass(frozen=True)
class BallOptions:
    radius: float = 1.0  # metres


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry[str]]:
    """A registry in the package `toys`, whose only module registers "car"."""
    package = tmp_path / "toys"
    package.mkdir()
    package.joinpath("__init__.py").write_text(
        'from gsplatloc.utils.registry import Registry\nTOYS = Registry("toy", __name__)\n'
    )
    package.joinpath("car.py").write_text(PLUGIN.format(name="car"))
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    registry._load_plugins.cache_clear()
    import toys

    yield toys.TOYS
    registry._load_plugins.cache_clear()
    for name in set(sys.modules) - before:
        del sys.modules[name]


def build(text: str) -> Callable[..., str]:
    def make(options: object) -> str:
        return f"{text} {options}"

    make.__qualname__ = f"make_{text}"
    return make


def test_members_are_found_by_name_with_their_options(toys: Registry[str]) -> None:
    make = toys.register("ball", BallOptions, "it rolls")(build("ball"))
    entry = toys["ball"]
    assert (entry.name, entry.help, entry.options, entry.make) == ("ball", "it rolls", BallOptions, make)
    assert entry.make(BallOptions(2.0)) == "ball BallOptions(radius=2.0)"
    assert toys["car"].options is NoOptions


def test_modules_of_the_package_are_imported_when_a_member_is_asked_for(toys: Registry[str]) -> None:
    assert "toys.car" not in sys.modules
    assert toys.names() == ("car",)
    assert "toys.car" in sys.modules


def test_members_come_by_priority_and_then_by_name(toys: Registry[str]) -> None:
    for name, priority in (("kite", 0), ("ball", 0), ("yoyo", 5), ("ant", -1)):
        toys.register(name, priority=priority)(build(name))
    assert [entry.name for entry in toys.entries()] == ["yoyo", "ball", "car", "kite", "ant"]
    assert toys.names() == ("ant", "ball", "car", "kite", "yoyo")


def test_options_are_found_by_their_type(toys: Registry[str]) -> None:
    toys.register("ball", BallOptions)(build("ball"))
    assert toys.options_of("ball", (NoOptions(), BallOptions(3.0))) == BallOptions(3.0)
    assert toys.options_of("ball", (NoOptions(),)) == BallOptions()


def test_a_member_is_made_of_its_options_and_the_familys_arguments(toys: Registry[str]) -> None:
    def make(options: BallOptions, place: str) -> SimpleNamespace:
        return SimpleNamespace(name="ball", options=options, place=place)

    toys.register("ball", BallOptions)(make)  # type: ignore[arg-type]
    made = toys.make("ball", (BallOptions(3.0),), "garden")
    assert (made.options, made.place) == (BallOptions(3.0), "garden")  # type: ignore[attr-defined]


def test_a_member_that_names_itself_otherwise_is_refused(toys: Registry[str]) -> None:
    toys.register("ball")(lambda options: SimpleNamespace(name="bull"))  # type: ignore[arg-type,return-value]
    with pytest.raises(GSplatLocError, match="name='ball' of the toy .* found 'bull': correct"):
        toys.make("ball", ())


def test_options_belong_to_one_member_of_all_families(toys: Registry[str]) -> None:
    """Settings are found by their type: two members of one type could not be set apart."""
    toys.register("ball", BallOptions)(build("ball"))
    for family in (toys, Registry[str]("tool", "toys")):
        with pytest.raises(GSplatLocError, match="'bat', found BallOptions of the toy ball: derive"):
            family.register("bat", BallOptions)(build("bat"))
    toys.register("ball", BallOptions)(build("ball"))


def test_settings_of_no_member_are_refused(toys: Registry[str]) -> None:
    toys.register("ball", BallOptions)(build("ball"))
    check_settings((BallOptions(2.0),), toys)
    for unknown in (BallOptions, NoOptions(), 5):
        with pytest.raises(GSplatLocError, match="settings out of BallOptions, found"):
            check_settings((unknown,), toys)


@pytest.mark.parametrize("name", ["my-ball", "", "2nd", "lambda", "final"])
def test_names_are_identifiers_and_not_reserved(name: str) -> None:
    family = Registry[str]("toy", "toys", reserved=("initial", "final"))
    with pytest.raises(GSplatLocError, match="other than initial, final .* found '.*' of .*make_it: rename"):
        family.register(name)(build("it"))


def test_a_family_whose_options_nothing_sets_refuses_them() -> None:
    family = Registry[str]("toy", "toys", has_options=False)
    with pytest.raises(GSplatLocError, match="toy 'ball' without options, .* found BallOptions: make const"):
        family.register("ball", BallOptions)(build("ball"))
    family.register("ball")(build("ball"))


def test_another_thread_waits_until_all_members_are_imported(toys: Registry[str], tmp_path: Path) -> None:
    slow = "import threading, time\nimport toys\n\ntoys.STARTED.set()\ntime.sleep(0.2)\n"
    (tmp_path / "toys" / "slow.py").write_text(slow + PLUGIN.format(name="slow"))
    started = threading.Event()
    vars(sys.modules["toys"])["STARTED"] = started
    thread = threading.Thread(target=toys.names)
    thread.start()
    assert started.wait(10)
    assert toys.names() == ("car", "slow")
    thread.join()


def test_a_module_sees_the_members_so_far_while_it_is_imported(toys: Registry[str], tmp_path: Path) -> None:
    curious = PLUGIN.format(name="curious") + "\nSEEN = TOYS.names()\n"
    (tmp_path / "toys" / "curious.py").write_text(curious)
    assert toys.names() == ("car", "curious")
    assert sys.modules["toys.curious"].SEEN == ("car", "curious")


def test_an_unknown_name_is_a_users_error_that_lists_the_known_ones(toys: Registry[str]) -> None:
    toys.register("ball")(build("ball"))
    with pytest.raises(
        GSplatLocError,
        match="expected a toy out of ball, car, found 'doll': choose one, or .* GSPLATLOC_PLUGINS",
    ):
        toys["doll"]


def test_two_members_of_one_name_are_an_error_that_names_both(toys: Registry[str]) -> None:
    toys.register("ball")(build("one"))
    with pytest.raises(GSplatLocError, match=r"called 'ball', found two, .*make_one and .*make_two"):
        toys.register("ball")(build("two"))
    assert toys["ball"].make("").startswith("one")


def test_the_same_function_may_be_registered_again(toys: Registry[str]) -> None:
    toys.register("ball", help="before")(build("ball"))
    toys.register("ball", help="after")(build("ball"))
    assert toys["ball"].help == "after"


def test_a_failing_module_is_reported_every_time(toys: Registry[str], tmp_path: Path) -> None:
    broken = tmp_path / "toys" / "broken.py"
    broken.write_text(PLUGIN.format(name="broken") + "raise ValueError('out of order')\n")
    for _ in range(2):
        with pytest.raises(ValueError, match="out of order"):
            toys.names()
    broken.write_text(PLUGIN.format(name="broken") + "\n\nWHOLE = True\n")
    assert toys.names() == ("broken", "car")


def test_plugins_are_files_and_modules(
    toys: Registry[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "by_path.py").write_text(PLUGIN.format(name="path"))
    (tmp_path / "by_module.py").write_text(PLUGIN.format(name="module"))
    monkeypatch.setenv("GSPLATLOC_PLUGINS", f" {tmp_path / 'by_path.py'}, by_module,")
    assert toys.names() == ("car", "module", "path")
    assert toys["path"].help == "of a plugin"


def test_plugins_are_entry_points_of_distributions(
    toys: Registry[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "by_entry_point.py").write_text(PLUGIN.format(name="installed"))
    point = metadata.EntryPoint("toy", "by_entry_point", "gsplatloc.plugins")

    def entry_points(group: str) -> list[metadata.EntryPoint]:
        return [point] if group == point.group else []

    monkeypatch.setattr(registry.metadata, "entry_points", entry_points)
    assert toys.names() == ("car", "installed")


def test_files_of_one_name_in_two_folders_are_two_plugins(toys: Registry[str], tmp_path: Path) -> None:
    for folder, name in (("a", "same"), ("b", "other"), ("c", "same")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "toy.py").write_text(PLUGIN.format(name=name))
    import_plugin(str(tmp_path / "a" / "toy.py"))
    import_plugin(str(tmp_path / "b" / "toy.py"))
    assert toys.names() == ("car", "other", "same")
    with pytest.raises(GSplatLocError, match="one toy called 'same'"):
        import_plugin(str(tmp_path / "c" / "toy.py"))


def test_a_plugin_that_fails_is_not_taken_for_imported(toys: Registry[str], tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text("raise KeyError('of the plugin')\n")
    before = set(sys.modules)
    with pytest.raises(KeyError, match="of the plugin"):
        import_plugin(str(tmp_path / "odd.py"))
    assert set(sys.modules) == before


@pytest.mark.parametrize("text", ["no_such_module", "nowhere/toy.py"])
def test_a_missing_plugin_is_a_users_error(text: str) -> None:
    with pytest.raises(GSplatLocError, match="GSPLATLOC_PLUGINS"):
        import_plugin(text)


@pytest.mark.parametrize("plugin", ["broken_toy", "broken_toy.py"])
def test_a_plugin_that_lacks_a_package_is_named(
    plugin: str, toys: Registry[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_toy.py").write_text("import no_such_package\n")
    monkeypatch.setenv("GSPLATLOC_PLUGINS", plugin)
    monkeypatch.chdir(tmp_path)
    expected = rf"import the plugin {plugin}, found No module named 'no_such_package': install what it needs"
    with pytest.raises(GSplatLocError, match=expected):
        toys.names()


def test_an_installed_plugin_that_lacks_a_package_is_named_with_its_distribution(
    toys: Registry[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_toy.py").write_text("import no_such_package\n")
    information = tmp_path / "toy_box-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-box\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[gsplatloc.plugins]\ntoy = broken_toy\n")
    with pytest.raises(GSplatLocError, match="plugin broken_toy of toy-box, found No module .*uninstall it"):
        toys.names()
