"""A room of Gaussians whose every pose is known, and queries rendered in it."""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.localization.features import Keypoints
from gsplatloc.localization.queries import Query
from gsplatloc.localization.result import Matches, PoseEstimate, Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils import se3

CAMERA = Camera(320, 240, 262.0, 264.0, 158.0, 121.5)  # neither centred nor with square pixels
RENDER = RenderOptions()
FEATURES = (30, 40)


@dataclass(frozen=True)
class Room:
    """A map, the pose from which the query was taken, and the query: all without noise."""

    gaussians: Gaussians
    truth: Tensor  # [4, 4] float64
    query: Query

    @property
    def splat_map(self) -> SplatMap:
        return SplatMap(gaussians=self.gaussians)

    def initial(self, xi: list[float]) -> PoseEstimate:
        """An estimate that is off by exp(xi); it states no covariance and has no matches."""
        pose = se3.se3_exp(torch.tensor(xi, dtype=torch.float64)) @ self.truth
        return PoseEstimate(Status.OK, CAMERA, pose)


def with_matches(initial: PoseEstimate, truth: Tensor, count: int = 200) -> PoseEstimate:
    """`initial` with matches of the true pose, every fourth of them wrong; all are marked as inliers."""
    generator = torch.Generator().manual_seed(7)
    size = torch.tensor([CAMERA.width, CAMERA.height], dtype=torch.float64)
    pixels = torch.rand(count, 2, generator=generator, dtype=torch.float64) * size
    depth = 2 + torch.rand(count, generator=generator, dtype=torch.float64)
    points = (CAMERA.unproject(pixels, depth) - truth[:3, 3]) @ truth[:3, :3]
    pixels[::4, 0] += 60.0
    matches = Matches(pixels.numpy(), points.numpy(), np.ones(count, bool))
    return replace(initial, inliers=count, matches=matches)


def _wall(generator: torch.Generator, count: int, origin: list[float], along: Tensor) -> Tensor:
    """Points [count^2, 3] on a jittered grid over the parallelogram `along` [2, 3]."""
    steps = (torch.arange(count) + 0.5) / count
    u, v = torch.meshgrid(steps, steps, indexing="ij")
    uv = torch.stack([u.flatten(), v.flatten()], 1)
    uv = uv + (torch.rand(uv.shape, generator=generator) - 0.5) * 0.6 / count
    return torch.tensor(origin) + uv @ along


def _smooth(points: Tensor, channels: int, frequency: float, generator: torch.Generator) -> Tensor:
    """Smooth random functions [N, channels] in [-1, 1] of position."""
    waves = torch.randn(3, channels, generator=generator) * frequency
    phase = torch.rand(channels, generator=generator) * 6.28
    return torch.sin(points @ waves + phase)


def make_gaussians() -> Gaussians:
    """A back wall 3 m away, a floor, a side wall and a box in front, of small flat Gaussians."""
    generator = torch.Generator().manual_seed(20)
    walls = [
        _wall(generator, 50, [-2.2, -1.7, 3.2], torch.tensor([[4.4, 0, 0], [0, 3.4, 0]])),
        _wall(generator, 36, [-2.2, 1.1, 1.0], torch.tensor([[4.4, 0, 0], [0, 0, 2.4]])),
        _wall(generator, 36, [-1.5, -1.6, 1.0], torch.tensor([[0, 0, 2.4], [0, 3.2, 0]])),
        _wall(generator, 16, [0.2, 0.1, 1.9], torch.tensor([[0.7, 0, 0], [0, 0.7, 0]])),
    ]
    scales = torch.full((4, 3), 0.045)
    scales[[0, 1, 2, 3], [2, 1, 0, 2]] = 0.002  # thin across the wall, so that depth is that of the wall
    points = torch.cat(walls)
    scales = torch.cat([scale.expand(len(wall), 3) for scale, wall in zip(scales, walls)])
    colour = torch.zeros(len(points), 3)
    for octave in range(4):  # the spectrum of natural images: amplitude falls with frequency
        grey, tint = (_smooth(points, channels, 3.0 * 2**octave, generator) for channels in (1, 3))
        colour += (0.15 * grey + 0.05 * tint) / 1.6**octave
    colour += 0.04 * torch.randn(len(points), 3, generator=generator)
    return Gaussians(
        means=points,
        quaternions=torch.tensor([1.0, 0, 0, 0]).repeat(len(points), 1),
        log_scales=scales.log(),
        opacity_logits=torch.full((len(points),), 4.0),
        sh=(colour / 0.28209479)[:, None],  # rgb = 0.5 + Y_0 sh
        features=_smooth(points, 64, 8.0, generator),
    )


def make_query(gaussians: Gaussians, truth: Tensor, gain: float = 1.0, bias: float = 0.0) -> Query:
    """The photo taken at `truth`, with everything that would have been extracted from it."""
    options = RenderOptions(feature_size=FEATURES)
    with torch.no_grad():
        result = render(gaussians, CAMERA, truth, options)
    assert result.features is not None
    rgb = (result.rgb * gain + bias).clamp(0, 1)
    image = np.ascontiguousarray((rgb * 255).round().byte().permute(1, 2, 0).numpy())
    dense = F.normalize(result.features, dim=0)
    xy = torch.rand(600, 2, generator=torch.Generator().manual_seed(3)) * torch.tensor([300.0, 220.0]) + 10
    grid = (2 * xy / torch.tensor([320.0, 240.0]) - 1)[None, None]
    sampled = F.grid_sample(dense[None], grid, mode="bicubic", align_corners=False)[0, :, 0].T
    keypoints = Keypoints(xy, F.normalize(sampled, dim=1), torch.linspace(1, 0.1, len(xy)))
    return Query(image, CAMERA, keypoints, dense)


def make_room() -> Room:
    gaussians = make_gaussians()
    truth = se3.se3_exp(torch.tensor([0.1, -0.05, 0.1, 0.05, -0.1, 0.03], dtype=torch.float64))
    return Room(gaussians, truth, make_query(gaussians, truth))


class Moves:
    """A refiner that answers with fixed poses, one a call; None rejects."""

    name, verifies = "moves", False

    def __init__(self, *poses: torch.Tensor | None, verifies: bool = False) -> None:
        self.poses, self.verifies, self.calls = list(poses), verifies, 0

    def refine(self, query: Query, splat_map: SplatMap, initial: PoseEstimate) -> PoseEstimate:
        pose = self.poses[min(self.calls, len(self.poses) - 1)]
        self.calls += 1
        if pose is None:
            return replace(initial, accepted=False)
        return replace(initial, cam_from_world=pose, accepted=True)


class Views:
    """Retrieval that returns fixed poses."""

    name = "views"

    def __init__(self, *poses: torch.Tensor) -> None:
        self.poses = poses

    def hypotheses(self, query: Query) -> list[PoseEstimate]:
        return [PoseEstimate(Status.OK, query.camera, pose, accepted=False) for pose in self.poses]


def far(room: Room) -> torch.Tensor:
    return se3.se3_exp(torch.tensor([0.5, 0.2, 0, 0, 0.4, 0], dtype=torch.float64)) @ room.truth
