"""Training of the network that describes splats: in a tiny room its loss falls, the same way every time."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors
import torch
from PIL import Image

from gsplatloc.arguments.train_matcher import parse_train_matcher_arguments
from gsplatloc.cli.train_matcher import main
from gsplatloc.localization.features import make_extractor
from gsplatloc.localization.splat_descriptors.network import SplatEncoder, load_encoder
from gsplatloc.mapping.options import MatcherTrainingOptions
from gsplatloc.mapping.splat_matcher import examples as examples_module
from gsplatloc.mapping.splat_matcher import training
from gsplatloc.mapping.splat_matcher.examples import Examples, of_map, of_photographs
from gsplatloc.mapping.splat_matcher.training import Point, evaluate, train_encoder
from gsplatloc.utils.errors import GSplatLocError
from tests.localization.rendered_room import make_gaussians
from tests.localization.splat_maps import pose_near, write_map, write_scene

OPTIONS = MatcherTrainingOptions(steps=30, batch=64, report=10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map, and beside it the scene that it is of."""
    home, room = tmp_path_factory.mktemp("room"), make_gaussians()
    poses = [pose_near(seed) for seed in range(6)]
    scene = write_scene(home / "scene", room, poses)
    return write_map(home / "map", room, poses, scene=scene)


@pytest.fixture(scope="module")
def examples(folder: Path) -> Examples:
    return of_map(folder, make_extractor(top_k=1000), 6, 200, 0, quiet=True)


@pytest.fixture(scope="module")
def photographs(folder: Path) -> Examples:
    return of_photographs(folder.parent / "scene", make_extractor(top_k=1000), 6, 200, 0, quiet=True)


def trained(
    places: list[Examples], options: MatcherTrainingOptions = OPTIONS
) -> tuple[SplatEncoder, list[Point]]:
    torch.manual_seed(0)
    encoder = SplatEncoder()
    return encoder, train_encoder(encoder, places, options)


def test_examples_are_of_keypoints_and_of_other_points(examples: Examples, photographs: Examples) -> None:
    assert 0.5 < examples.keypoint.float().mean() < 1 and photographs.keypoint.all()
    for each in (examples, photographs):
        assert len(each) > 500 and each.drawn.isfinite().all()
        lengths = each.descriptors.float().norm(dim=1)
        assert (lengths - 1).abs().max() < 0.01
    # A room without holes covers the fine grid.
    assert examples.drawn[:, 0, 1].float().mean() > 0.8


def test_training_learns(examples: Examples) -> None:
    torch.manual_seed(0)
    before = evaluate(SplatEncoder(), examples)
    encoder, curve = trained([examples])
    after = evaluate(encoder, examples)
    assert curve[-1].loss < 0.7 * curve[0].loss
    assert after[0] > before[0] + 0.3 and after[1] > before[1] + 0.1


def test_training_is_the_same_every_time(examples: Examples, photographs: Examples) -> None:
    options = replace(OPTIONS, steps=4)
    first, second = (trained([examples, photographs], options)[0].state_dict() for _ in range(2))
    other = trained([examples, photographs], replace(options, seed=1))[0].state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_the_command_writes_weights_with_a_record(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "weights.safetensors"
    words = [str(folder), "-o", str(out), "--steps", "2", "--report", "1", "--batch", "32", "--quiet"]
    words += [
        "--photos",
        str(folder.parent / "scene"),
        "--images",
        "2",
        "--held_out",
        str(folder.parent / "map2"),
    ]
    monkeypatch.setattr("sys.argv", ["gsplatloc train-matcher", *words])
    (folder.parent / "map2").symlink_to(folder)
    main(parse_train_matcher_arguments([*words, "--snapshots"]))
    load_encoder(out, make_extractor().version)
    with safetensors.safe_open(out, "pt") as file:
        record = file.metadata()
    assert record["command"].startswith("gsplatloc train-matcher") and str(folder) not in record["command"]
    assert [point[0] for point in json.loads(record["curve"])] == [1, 2]
    assert json.loads(record["options"])["batch"] == 32
    assert {path.name for path in tmp_path.iterdir()} == {
        "weights.safetensors", "weights-000001.safetensors", "weights-000002.safetensors"
    }  # fmt: skip


def test_wrong_arguments_are_errors_of_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="maps or --photos"):
        parse_train_matcher_arguments(["-o", "w.safetensors"]).check()
    with pytest.raises(GSplatLocError, match="another place"):
        parse_train_matcher_arguments([str(folder), "-o", "w", "--held_out", str(folder)]).check()
    with pytest.raises(GSplatLocError, match="expected a folder"):
        parse_train_matcher_arguments([str(tmp_path / "none"), "-o", "w"]).check()
    with pytest.raises(GSplatLocError, match="--batch of at least 1"):
        MatcherTrainingOptions(batch=0)


def test_a_folder_without_photographs_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="images with keypoints"):
        of_photographs(tmp_path, make_extractor(), 2, 10, 0, quiet=True)


def test_a_batch_without_keypoints_teaches_the_score_alone(examples: Examples) -> None:
    index = torch.arange(8)
    batch = Examples(examples.drawn[index], examples.descriptors[index], torch.zeros(8, dtype=torch.bool))
    value = training.loss(SplatEncoder(), batch, 8, torch.tensor(2.0))
    assert value.isfinite()


def test_photographs_of_folders_within_folders_are_used_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    Image.new("RGB", (32, 24)).save(inner / "x.png")
    used: list[Path] = []
    monkeypatch.setattr(examples_module, "progress", lambda files, **_: used.extend(files) or [])
    with pytest.raises(GSplatLocError, match="found none"):
        examples_module.of_photographs(tmp_path, make_extractor(), 10, 10, 0, quiet=True)
    assert used == [inner / "x.png"]
