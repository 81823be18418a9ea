"""Clusters of the landmarks of a large map, and their scores for a query."""

import torch

from gsplatloc.localization.initial.landmarks import LandmarkPose
from gsplatloc.localization.initial.members import LandmarkMatchingOptions
from gsplatloc.localization.landmarks.clusters import cluster_landmarks, viewpoints
from gsplatloc.localization.landmarks.file import Landmarks
from tests.localization.world import CAMERA, TRUTH, VERSION, World, pose_errors


def rooms(count: int, size: int) -> Landmarks:
    """`count` rooms of `size` landmarks each, 100 m apart, room by room."""
    generator = torch.Generator().manual_seed(3)
    room = torch.arange(count).repeat_interleave(size)
    positions = torch.rand(count * size, 3, generator=generator) + 100.0 * room[:, None] * torch.tensor(
        [1, 0, 0]
    )
    unit = torch.nn.functional.normalize
    return Landmarks(
        positions,
        unit(torch.randn(count * size, 64, generator=generator), dim=1),
        unit(torch.randn(count * size, 3, generator=generator), dim=1),
        torch.tensor([1.0, 2.0]).repeat(count * size, 1),
        torch.full((count * size,), 5, dtype=torch.int32),
        VERSION,
    )


def joined(a: Landmarks, b: Landmarks) -> Landmarks:
    names = ("positions", "descriptors", "directions", "distances", "lengths")
    return Landmarks(*(torch.cat([getattr(a, name), getattr(b, name)]) for name in names), VERSION)


def test_every_landmark_is_in_one_cluster() -> None:
    clusters = cluster_landmarks(rooms(3, 1500))
    assert sorted(torch.cat(clusters.members).tolist()) == list(range(4500))
    assert max(len(part) for part in clusters.members) <= 2048


def test_clusters_do_not_mix_distant_rooms() -> None:
    for part in cluster_landmarks(rooms(4, 2000)).members:
        assert len((part // 2000).unique()) == 1


def test_landmarks_seen_from_opposite_sides_are_in_different_clusters() -> None:
    """One wall of points, half of them seen from the front and half from behind."""
    landmarks = rooms(1, 4000)
    landmarks.directions[:] = torch.tensor([0.0, 0.0, 1.0])
    landmarks.directions[::2] *= -1
    for part in cluster_landmarks(landmarks).members:
        assert len((part % 2).unique()) == 1


def test_unknown_distances_leave_the_position() -> None:
    landmarks = rooms(1, 10)
    landmarks.distances[:] = torch.tensor([0.0, torch.inf])
    torch.testing.assert_close(viewpoints(landmarks)[:, 3:], landmarks.positions)


def test_the_room_of_the_keypoints_has_the_highest_score() -> None:
    landmarks = rooms(8, 2000)
    generator = torch.Generator().manual_seed(4)
    seen = landmarks.descriptors[6000:8000][torch.randperm(2000, generator=generator)]
    noisy = torch.nn.functional.normalize(seen + 0.05 * torch.randn(2000, 64, generator=generator), dim=1)
    clusters = cluster_landmarks(landmarks)
    chosen = clusters.shortlist(clusters.scores(clusters.pairs(noisy)), 1000)
    assert ((chosen >= 6000) & (chosen < 8000)).all()
    assert len(chosen) == 2000
    assert (chosen.diff() > 0).all()


def test_a_camera_is_found_in_a_large_map(world: World) -> None:
    large = joined(world.landmarks, rooms(8, 2000))
    options = LandmarkMatchingOptions(first_landmarks=1000)
    (estimate,) = LandmarkPose(large, options).hypotheses(world.query(CAMERA))
    assert pose_errors(estimate.pose(), TRUTH)[0] < 0.01
