"""Views of the synthetic room: the camera poses, and their images by ray casting."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from gsplatloc.datasets.room_furniture import ROOM_SIZE, furnish
from gsplatloc.datasets.room_light import bake, to_display
from gsplatloc.datasets.room_surfaces import Array, Surface
from gsplatloc.scene.cameras import Camera
from gsplatloc.utils import se3

AMBIENT = np.array([0.34, 0.35, 0.38], np.float32)
_SUN = np.array(
    [2.3, 1.9, 2.45], np.float32
)  # metres; the light that highlights reflect, at the ceiling panel
_NEAR = 0.05  # metres


@dataclass(frozen=True)
class RoomView:
    """An image and its exact depth at pixel centres."""

    rgb: Array  # [H, W, 3]
    depth: Array  # [H, W] metres along z


@dataclass(frozen=True)
class Hits:
    """Hits of rays on the surfaces of a room: arrays of one shape."""

    depth: Array  # metres along z; 0 = nothing
    index: Array  # int32, of the surface
    u: Array
    v: Array

    def at(self, chosen: Array) -> "Hits":
        """The hits where a mask is set, flat."""
        return Hits(self.depth[chosen], self.index[chosen], self.u[chosen], self.v[chosen])


class Room:
    """Surfaces with precomputed light, which `render` shows from any pose."""

    def __init__(self, surfaces: list[Surface], radiance: list[Array]) -> None:
        """`radiance` holds a linear texture [h, w, 3] per surface."""
        self.surfaces = surfaces
        self._bounds = [surface.bounds() for surface in surfaces]
        self._textures = _MipMaps(radiance, surfaces)

    @classmethod
    def build(cls, seed: int = 0) -> "Room":
        """The furnished room; `seed` chooses every texture, the geometry stays nearly the same."""
        solid, lights = furnish(np.random.default_rng(seed))
        return cls(solid.surfaces, bake(solid.surfaces, solid.occluders, lights, AMBIENT))

    def render(self, camera: Camera, cam_from_world: Array, supersampling: int = 2) -> RoomView:
        """Render from pose [4, 4]; each pixel is the mean of supersampling^2 rays."""
        fine = camera.resized(camera.width * supersampling, camera.height * supersampling)
        hits = self.cast(fine, cam_from_world)
        linear = self.shade(hits, fine, cam_from_world)
        linear[hits.depth == 0] = 0
        return RoomView(averaged(linear, supersampling), self.cast(camera, cam_from_world).depth)

    def cast(self, camera: Camera, cam_from_world: Array) -> Hits:
        """The first hit [H, W] at each pixel centre."""
        rotation = cam_from_world[:3, :3]
        origin = (-rotation.T @ cam_from_world[:3, 3]).astype(np.float32)
        directions = _rays(camera, rotation.T)
        depth = np.full((camera.height, camera.width), np.inf, np.float32)
        index = np.zeros(depth.shape, np.int32)
        u, v = np.zeros_like(depth), np.zeros_like(depth)
        for number, (surface, bounds) in enumerate(zip(self.surfaces, self._bounds)):
            window = image_window(bounds, camera, cam_from_world) if surface.faces(origin) else None
            if window is None:
                continue
            hit = surface.intersect(origin, directions[:, *window].reshape(3, -1))
            t = hit.t.reshape(depth[window].shape)
            nearer = t < depth[window]
            for target, value in ((depth, t), (u, hit.u.reshape(t.shape)), (v, hit.v.reshape(t.shape))):
                target[window][nearer] = value[nearer]
            index[window][nearer] = number
        return Hits(np.where(np.isfinite(depth), depth, np.float32(0)), index, u, v)

    def shade(self, hits: Hits, camera: Camera, cam_from_world: Array) -> Array:
        """Linear radiance [..., 3] of hits, in which the image of `camera` has a pixel for each ray."""
        rotation = cam_from_world[:3, :3].astype(np.float32)
        color = self._textures.sample(hits.index, hits.u, hits.v, hits.depth / np.float32(camera.fx))
        eye = -rotation.T @ cam_from_world[:3, 3].astype(np.float32)
        color += self._highlight(hits.index, hits.u, hits.v, eye)[..., None]
        return color

    def _highlight(self, index: Array, u: Array, v: Array, eye: Array) -> Array:
        """Blinn-Phong highlights [...] of the glossy surfaces in view."""
        shine = np.zeros(index.shape, np.float32)
        for number in np.unique(index):
            surface = self.surfaces[number]
            if surface.material.gloss:
                at = index == number
                positions, normals = surface.sample(u[at], v[at])
                half = _unit(_SUN - positions) + _unit(eye - positions)
                cosine = np.maximum((_unit(half) * normals).sum(-1), 0)
                shine[at] = surface.material.gloss * cosine**24
        return shine


class _MipMaps:
    """Every texture at halving resolutions in one flat array, so that one gather serves a whole image."""

    LEVELS = 6

    def __init__(self, radiance: list[Array], surfaces: list[Surface]) -> None:
        texels: list[Array] = []
        self._offsets = np.zeros((len(radiance), self.LEVELS), np.int64)
        self._shapes = np.ones((len(radiance), self.LEVELS, 2), np.int64)
        self._density = np.ones(len(radiance), np.float32)  # texels per metre
        at = 0
        for number, (texture, surface) in enumerate(zip(radiance, surfaces)):
            self._density[number] = texture.shape[1] / surface.size[0]
            for level in range(self.LEVELS):
                self._offsets[number, level], self._shapes[number, level] = at, texture.shape[:2]
                texels.append(texture.reshape(-1, 3))
                at += texture.shape[0] * texture.shape[1]
                texture = halve(texture)
        self._texels = np.concatenate(texels).astype(np.float32)

    def sample(self, index: Array, u: Array, v: Array, footprint: Array) -> Array:
        """Bilinear samples [..., 3]; `footprint` is the width of a ray in metres where it hits."""
        blur = np.log2(np.maximum(footprint * self._density[index], 1e-6))
        level = np.clip(np.round(blur), 0, self.LEVELS - 1).astype(np.int64)
        offset, shape = self._offsets[index, level], self._shapes[index, level]
        rows, columns = shape[..., 0], shape[..., 1]
        x = np.clip(u * columns - 0.5, 0, columns - 1)  # texel centres at 0.5, as pixels
        y = np.clip(v * rows - 0.5, 0, rows - 1)
        left, top = x.astype(np.int64), y.astype(np.int64)
        right, bottom = np.minimum(left + 1, columns - 1), np.minimum(top + 1, rows - 1)
        fx, fy = (x - left).astype(np.float32)[..., None], (y - top).astype(np.float32)[..., None]
        above = self._mix(offset + top * columns, left, right, fx)
        return above + fy * (self._mix(offset + bottom * columns, left, right, fx) - above)

    def _mix(self, row: Array, left: Array, right: Array, fx: Array) -> Array:
        start = self._texels[row + left]
        return start + fx * (self._texels[row + right] - start)


def averaged(linear: Array, supersampling: int) -> Array:
    """The image [H, W, 3] uint8 of linear radiance with supersampling^2 values per pixel."""
    height, width = linear.shape[0] // supersampling, linear.shape[1] // supersampling
    mean = linear.reshape(height, supersampling, width, supersampling, 3).mean((1, 3))
    return np.round(to_display(mean) * 255).astype(np.uint8)


def training_path(count: int, arc: float = 1.0) -> list[Array]:
    """Poses on one wavy loop through the room, looking across it; they cover the fraction `arc` of it."""
    return [pose_on_loop(2 * np.pi * arc * step / count) for step in range(count)]


def query_path(count: int, rng: Generator, arc: float = 1.0) -> list[Array]:
    """Poses 5 to 12 cm off the loop, rotated by up to 8 degrees about each axis."""
    poses = []
    for step in range(count):
        offset, angles = _random_offset(rng)
        poses.append(pose_on_loop(2 * np.pi * arc * (step + rng.uniform(0.2, 0.8)) / count, offset, angles))
    return poses


def aside(cam_from_world: Array, rng: Generator) -> Array:
    """A pose [4, 4] moved by 5 to 12 cm and rotated by up to 8 degrees about each axis."""
    offset, angles = _random_offset(rng)
    moved = cam_from_world.copy()
    moved[:3, 3] -= moved[:3, :3] @ offset
    return _turned(moved, angles)


def _random_offset(rng: Generator) -> tuple[Array, Array]:
    """Metres [3], and yaw, pitch and roll in radians."""
    offset = rng.normal(size=3)
    offset *= rng.uniform(0.05, 0.12) / np.linalg.norm(offset)
    return offset, np.deg2rad(rng.uniform(-8, 8, 3))


def look_at(eye: Array, target: Array) -> Array:
    """cam_from_world [4, 4] of a camera at `eye` that looks at `target` with z up in the world."""
    forward = _unit(target - eye)
    right = _unit(np.cross(forward, [0.0, 0.0, 1.0]))
    rotation = np.stack([right, np.cross(forward, right), forward])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, -rotation @ eye
    return pose


def pose_on_loop(angle: float, offset: Array | None = None, angles: Array | None = None) -> Array:
    """A pose at `angle` of the loop, moved by `offset` metres and turned by yaw, pitch and roll (radians)."""
    center = np.array(ROOM_SIZE) / 2
    eye = center + [1.35 * np.cos(angle), 1.0 * np.sin(angle), 0.30 + 0.17 * np.sin(5 * angle)]
    target = center - [1.3 * np.cos(angle), 1.1 * np.sin(angle), 0.15 + 0.25 * np.cos(3 * angle)]
    pose = look_at(eye + (0 if offset is None else offset), target)
    return pose if angles is None else _turned(pose, angles)


def _turned(cam_from_world: Array, angles: Array) -> Array:
    """A pose turned by yaw, pitch and roll in radians."""
    yaw, pitch, roll = angles
    turn = np.eye(4)
    turn[:3, :3] = _axis_turn(1, yaw) @ _axis_turn(0, pitch) @ _axis_turn(2, roll)
    turned: Array = turn @ cam_from_world
    return turned


def _axis_turn(axis: int, angle: float) -> Array:
    cosine, sine = np.cos(angle), np.sin(angle)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turn = np.eye(3)
    turn[first, first] = turn[second, second] = cosine
    turn[first, second], turn[second, first] = -sine, sine
    return turn


def _rays(camera: Camera, world_from_cam: Array) -> Array:
    """World directions [3, H, W] through pixel centres, of depth 1."""
    x = ((np.arange(camera.width) + 0.5 - camera.cx) / camera.fx)[None, None]
    y = ((np.arange(camera.height) + 0.5 - camera.cy) / camera.fy)[None, :, None]
    across, down, forward = world_from_cam.T[:, :, None, None]  # each [3, 1, 1]
    return (across * x + down * y + forward).astype(np.float32)


def image_window(points: Array, camera: Camera, cam_from_world: Array) -> tuple[slice, slice] | None:
    """The rows and columns that the convex hull of points [K, 3] can cover; None where it is out of sight."""
    points = se3.transform(cam_from_world, points)
    if (points[:, 2] < _NEAR).all():
        return None
    if (points[:, 2] < _NEAR).any():
        return slice(0, camera.height), slice(0, camera.width)
    x = points[:, 0] / points[:, 2] * camera.fx + camera.cx
    y = points[:, 1] / points[:, 2] * camera.fy + camera.cy
    left, right = max(int(x.min()) - 1, 0), min(int(x.max()) + 2, camera.width)
    top, bottom = max(int(y.min()) - 1, 0), min(int(y.max()) + 2, camera.height)
    return (slice(top, bottom), slice(left, right)) if right > left and bottom > top else None


def halve(texture: Array) -> Array:
    """Half the resolution by the mean of 2 x 2 texels; a side of one texel stays."""
    for axis in (0, 1):
        size = texture.shape[axis]
        if size > 1:
            even = np.take(texture, range(0, size - size % 2), axis)
            shape = list(even.shape)
            shape[axis : axis + 1] = [size // 2, 2]
            texture = even.reshape(shape).mean(axis + 1)
    return texture


def _unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
