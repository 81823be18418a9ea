"""The benchmark of large places: maps of other training steps are other maps."""

from pathlib import Path

import pytest

from benchmarks import building
from benchmarks.building import BuildingArguments, measure


def test_a_map_of_other_steps_is_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[str, str]] = []

    class Trained(Exception):  # noqa: N818
        """Ends a measurement where its map would be trained."""

    def run_gsplatloc(words: list[object], log: Path) -> None:
        if words[0] == "train":
            texts = [str(word) for word in words]
            trained.append((texts[texts.index("-m") + 1], texts[texts.index("--iterations") + 1]))
            raise Trained

    monkeypatch.setattr(building, "run_gsplatloc", run_gsplatloc)
    for iterations in (300, 700):
        with pytest.raises(Trained):
            measure(BuildingArguments(iterations=iterations, work=tmp_path), 1)
    (first, few), (second, many) = trained
    assert (few, many) == ("300", "700") and first != second
