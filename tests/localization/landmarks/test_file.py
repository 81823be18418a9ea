"""Landmarks on disk."""

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors
import torch
from safetensors.torch import load_file, save_file

from gsplatloc.localization.landmarks.file import load_geometry, load_landmarks, save_landmarks
from gsplatloc.localization.landmarks.noise import MapNoise
from gsplatloc.utils.errors import GSplatLocError
from tests.localization.world import World


def test_file_gives_back_what_was_saved(world: World, tmp_path: Path) -> None:
    path = tmp_path / "landmarks.safetensors"
    save_landmarks(world.landmarks, path)
    loaded = load_landmarks(path)
    assert torch.equal(loaded.positions, world.landmarks.positions)
    assert torch.equal(loaded.lengths, world.landmarks.lengths)
    assert loaded.extractor == world.landmarks.extractor
    torch.testing.assert_close(loaded.descriptors, world.landmarks.descriptors, atol=3e-3, rtol=0)
    torch.testing.assert_close(loaded.directions, world.landmarks.directions, atol=1e-3, rtol=0)
    torch.testing.assert_close(loaded.distances, world.landmarks.distances, atol=0, rtol=1e-2)


def test_landmarks_without_distances_are_seen_from_anywhere(world: World, tmp_path: Path) -> None:
    tensors = {name: getattr(world.landmarks, name) for name in ("positions", "directions", "lengths")}
    tensors["descriptors"] = world.landmarks.descriptors.half()
    path = tmp_path / "old.safetensors"
    save_file(tensors, path, {"format": "gsplatloc-landmarks-1", "extractor": "x"})
    distances = load_landmarks(path).distances
    assert (distances[:, 0] == 0).all() and distances[:, 1].isinf().all()


def test_descriptors_stay_normalised(world: World, tmp_path: Path) -> None:
    save_landmarks(world.landmarks, tmp_path / "l.safetensors")
    norms = load_landmarks(tmp_path / "l.safetensors").descriptors.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))


@pytest.mark.parametrize("channels", [5, 64, 128])
def test_a_landmark_takes_26_bytes_and_one_per_channel(channels: int, world: World, tmp_path: Path) -> None:
    path, generator = tmp_path / "l.safetensors", torch.Generator().manual_seed(0)
    descriptors = torch.randn(len(world.landmarks), channels, generator=generator)
    descriptors = torch.nn.functional.normalize(descriptors, dim=1)
    save_landmarks(replace(world.landmarks, descriptors=descriptors), path)
    assert path.stat().st_size < (26 + channels) * len(world.landmarks) + 1000
    torch.testing.assert_close(load_landmarks(path).descriptors, descriptors, atol=6e-3, rtol=0)


def test_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match=r"run gsplatloc map or train"):
        load_landmarks(tmp_path / "none.safetensors")


def test_broken_file_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"not a map")
    with pytest.raises(GSplatLocError, match="expected landmarks"):
        load_landmarks(tmp_path / "broken.safetensors")


def test_foreign_safetensors_are_a_user_error(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(GSplatLocError, match="no format name"):
        load_landmarks(tmp_path / "foreign.safetensors")


def test_a_map_without_one_of_its_tensors_is_a_user_error(world: World, tmp_path: Path) -> None:
    path = tmp_path / "l.safetensors"
    save_landmarks(world.landmarks, path)
    with safetensors.safe_open(path, "pt") as file:
        metadata, tensors = (
            file.metadata(),
            {name: file.get_tensor(name) for name in ("positions", "lengths")},
        )
    save_file(tensors, path, metadata)
    with pytest.raises(GSplatLocError, match="descriptors"):
        load_landmarks(path)


def test_the_noise_of_the_mapping_poses_is_kept_and_may_be_missing(world: World, tmp_path: Path) -> None:
    path = tmp_path / "l.safetensors"
    save_landmarks(replace(world.landmarks, pose_noise=(0.25, 0.125, 0.5)), path)
    assert load_landmarks(path).pose_noise == (0.25, 0.125, 0.5)
    tensors = load_file(path)
    metadata = {"format": "gsplatloc-landmarks-2", "extractor": world.landmarks.extractor}
    save_file({name: tensor for name, tensor in tensors.items() if name != "pose_noise"}, path, metadata)
    assert load_landmarks(path).pose_noise == (0.0, 0.0, 0.0)
    assert (
        load_geometry(path) is None and MapNoise.load(path) == MapNoise.load(tmp_path / "none") == MapNoise()
    )


def test_maps_with_the_noise_of_poses_alone_can_be_read(world: World, tmp_path: Path) -> None:
    path = tmp_path / "l.safetensors"
    save_landmarks(world.landmarks, path)
    metadata = {"format": "gsplatloc-landmarks-2", "extractor": world.landmarks.extractor}
    save_file({**load_file(path), "pose_noise": torch.tensor([0.25, 0.125])}, path, metadata)
    assert load_landmarks(path).pose_noise == (0.25, 0.125, 0.0)
    assert MapNoise.load(path) == MapNoise((0.25, 0.125))


@pytest.mark.parametrize("spreads", [torch.ones(3), torch.zeros(400), torch.full((400,), torch.nan)])
def test_spreads_that_are_none_are_a_users_error(world: World, tmp_path: Path, spreads: torch.Tensor) -> None:
    path = tmp_path / "l.safetensors"
    spreads = spreads[: len(world.landmarks)]
    save_landmarks(replace(world.landmarks, spreads=spreads), path)
    with pytest.raises(GSplatLocError, match="spreads"):
        load_landmarks(path)


@pytest.mark.parametrize(
    "noise", [torch.tensor([0.1]), torch.tensor(0.1), torch.tensor([-1.0, float("nan")])]
)
def test_a_noise_that_is_none_is_a_users_error(world: World, tmp_path: Path, noise: torch.Tensor) -> None:
    path = tmp_path / "l.safetensors"
    save_landmarks(world.landmarks, path)
    metadata = {"format": "gsplatloc-landmarks-2", "extractor": world.landmarks.extractor}
    save_file({**load_file(path), "pose_noise": noise}, path, metadata)
    with pytest.raises(GSplatLocError, match="train this map anew"):
        load_landmarks(path)


def test_a_map_without_landmarks_states_no_error_of_its_geometry(world: World, tmp_path: Path) -> None:
    save_landmarks(world.landmarks.select(slice(0, 0)), tmp_path / "l.safetensors")
    noise = MapNoise.load(tmp_path / "l.safetensors")
    assert noise.landmarks is None or len(noise.landmarks) == 0
