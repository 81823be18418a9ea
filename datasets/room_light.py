"""Light baked into the room's textures: area lights with soft shadows, a sky and ambient occlusion.

Shading is computed on a coarse grid per surface with shadow rays against boxes, interpolated, and multiplied
into the albedo. What is left for each view is the highlight.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from gsplatloc.datasets.room_surfaces import Array, Occluder, Surface, dot

_GRID_PER_METRE = 11.0  # spacing of the shading grid
_AMBIENT_RAYS = 24
_AMBIENT_REACH = 0.9  # metres; farther surfaces are no ambient occlusion
_DISPLAY_GAMMA = 2.2
_CHUNK = 4096  # points shaded together


@dataclass(frozen=True)
class AreaLight:
    """A glowing rectangle with a cosine lobe."""

    center: Array  # [3] metres
    u_half: Array  # [3] metres
    v_half: Array  # [3] metres
    normal: Array  # [3] unit, the direction it shines to
    color: Array  # [3] linear, intensity times area

    def samples(self, count: int = 4) -> Array:
        """A regular grid of count^2 points [S, 3] on the light."""
        steps = (np.arange(count, dtype=np.float32) + 0.5) / count * 2 - 1
        u, v = np.meshgrid(steps, steps)
        offsets = u.reshape(-1, 1) * self.u_half + v.reshape(-1, 1) * self.v_half
        return (self.center + offsets).astype(np.float32)


def bake(
    surfaces: list[Surface], occluders: list[Occluder], lights: list[AreaLight], ambient: Array
) -> list[Array]:
    """Shaded textures [h, w, 3] of linear radiance, one per surface, in order."""
    grids = [_grid(surface) for surface in surfaces]
    positions, normals = (
        np.ascontiguousarray(np.concatenate([grid[part].reshape(-1, 3) for grid in grids]).T)
        for part in (0, 1)
    )
    starts = range(0, positions.shape[1], _CHUNK)
    with ThreadPoolExecutor(2) as pool:
        chunks = pool.map(
            lambda at: _irradiance(
                positions[:, at : at + _CHUNK], normals[:, at : at + _CHUNK], occluders, lights, ambient
            ),
            starts,
        )
        light = np.concatenate(list(chunks), 1).T
    baked, at = [], 0
    for surface, (points, _) in zip(surfaces, grids):
        rows, columns = points.shape[:2]
        baked.append(_shade(surface, light[at : at + rows * columns].reshape(rows, columns, 3)))
        at += rows * columns
    return baked


def to_display(linear: Array) -> Array:
    """Linear radiance -> sRGB-like values in [0, 1], with a soft shoulder instead of a hard clip."""
    shoulder = np.where(linear < 0.8, linear, 1 - 0.2 * np.exp(-(linear - 0.8) / 0.2))
    return np.clip(shoulder, 0, 1) ** np.float32(1 / _DISPLAY_GAMMA)


def _grid(surface: Surface) -> tuple[Array, Array]:
    """Positions and normals [rows, columns, 3] of the shading grid; its border lies on the surface's edge."""
    columns, rows = (int(np.clip(round(length * _GRID_PER_METRE), 3, 64)) for length in surface.size)
    inset = np.float32(0.004)
    u, v = np.meshgrid(np.linspace(inset, 1 - inset, columns), np.linspace(inset, 1 - inset, rows))
    return surface.sample(u.astype(np.float32), v.astype(np.float32))


def _shade(surface: Surface, light: Array) -> Array:
    material = surface.material
    linear = material.albedo.astype(np.float32) ** np.float32(_DISPLAY_GAMMA)
    if material.glow:
        return (linear * material.glow).astype(np.float32)
    size = (linear.shape[1], linear.shape[0])
    return (linear * cv2.resize(light, size, interpolation=cv2.INTER_LINEAR)).astype(np.float32)


def _irradiance(
    positions: Array, normals: Array, occluders: list[Occluder], lights: list[AreaLight], ambient: Array
) -> Array:
    """Light [3, P] that arrives at `positions` [3, P]."""
    start = (positions + 2e-3 * normals).astype(np.float32)
    total = ambient[:, None] * _openness(start, normals, occluders)
    for light in lights:
        samples = light.samples()
        arriving = np.zeros(start.shape[1], np.float32)
        for sample in samples:
            towards = sample[:, None] - start
            distance = np.sqrt((towards * towards).sum(0))
            towards /= distance
            cosines = np.maximum((towards * normals).sum(0), 0) * np.maximum(-dot(light.normal, towards), 0)
            lit = np.flatnonzero(cosines > 0)
            blocked = _blocked(start[:, lit], towards[:, lit], distance[lit] - 0.02, occluders)
            arriving[lit] += np.where(blocked, 0, cosines[lit] / np.maximum(distance[lit] ** 2, 0.05))
        total = total + light.color[:, None] * (arriving / len(samples))
    return total.astype(np.float32)


def _openness(start: Array, normals: Array, occluders: list[Occluder]) -> Array:
    """The cosine-weighted fraction [P] of the hemisphere that no nearby surface covers."""
    index = np.arange(_AMBIENT_RAYS, dtype=np.float32) + 0.5
    radius, angle = np.sqrt(index / _AMBIENT_RAYS), index * np.pi * (3 - np.sqrt(5))  # a Fibonacci spiral
    local = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.sqrt(1 - radius**2)], 1)
    helper = np.where(np.abs(normals[2]) < 0.9, np.array([[0], [0], [1.0]]), np.array([[1.0], [0], [0]]))
    tangent = np.cross(helper, normals, axis=0)
    tangent /= np.sqrt((tangent * tangent).sum(0))
    bitangent = np.cross(normals, tangent, axis=0)
    covered = np.zeros(start.shape[1], np.float32)
    reach = np.full(start.shape[1], _AMBIENT_REACH, np.float32)
    for x, y, z in local:
        direction = (x * tangent + y * bitangent + z * normals).astype(np.float32)
        covered += _blocked(start, direction, reach, occluders)
    return 1 - covered / _AMBIENT_RAYS


def _blocked(start: Array, directions: Array, reach: Array, occluders: list[Occluder]) -> np.ndarray:
    blocked = np.zeros(start.shape[1], bool)
    for occluder in occluders:
        blocked |= occluder.blocks(start, directions, reach)
    return blocked
