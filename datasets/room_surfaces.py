"""Textured surfaces with exact ray intersections: the geometry of the synthetic room.

Rays are given as `origin + t * direction` with directions whose z in the camera frame is 1, so that `t` is
the depth. Each surface is parametrised by (u, v) in [0, 1]^2, its texture's axes.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # float32 unless said otherwise


@dataclass(frozen=True)
class Hit:
    """Hits of rays on a surface: flat arrays [R]; `t` is infinite where they miss."""

    t: Array
    u: Array
    v: Array


@dataclass(frozen=True)
class Material:
    """How a surface looks."""

    albedo: Array  # [h, w, 3] sRGB in [0, 1]
    gloss: float = 0.0  # strength of the highlight, 0 = matt
    glow: float = 0.0  # emitted light, 1 = white on a display; a glowing surface is not shaded


class Surface(Protocol):
    """A surface with ray intersections."""

    @property
    def material(self) -> Material: ...

    @property
    def size(self) -> tuple[float, float]:
        """Metres along u and v."""
        ...

    def intersect(self, origin: Array, directions: Array) -> Hit:
        """Nearest hit of rays from `origin` [3] along `directions` [3, R] with the front side."""
        ...

    def sample(self, u: Array, v: Array) -> tuple[Array, Array]:
        """Positions and unit normals [..., 3] at parameters u, v [...]."""
        ...

    def bounds(self) -> Array:
        """Points [K, 3] whose convex hull holds the surface."""
        ...

    def faces(self, eye: Array) -> bool:
        """Whether any of the front side can be seen from `eye` [3]."""
        ...


@dataclass(frozen=True)
class Quad:
    """A rectangle, seen from the side that `u x v` points away from: v runs down when u runs right."""

    corner: Array  # [3] where u = v = 0, the texture's top left
    u_edge: Array  # [3] metres, along the texture's rows
    v_edge: Array  # [3] metres, along its columns
    material: Material

    @property
    def size(self) -> tuple[float, float]:
        return float(np.linalg.norm(self.u_edge)), float(np.linalg.norm(self.v_edge))

    @cached_property
    def normal(self) -> Array:
        """The unit normal that points towards the viewer."""
        normal = np.cross(self.v_edge, self.u_edge)
        return (normal / np.linalg.norm(normal)).astype(np.float32)

    def intersect(self, origin: Array, directions: Array) -> Hit:
        normal, offset = self.normal, self.corner - origin
        u_axis = self.u_edge / (self.u_edge @ self.u_edge)
        v_axis = self.v_edge / (self.v_edge @ self.v_edge)
        towards = dot(normal, directions)
        facing = towards < -1e-9
        t = np.float32(offset @ normal) / np.where(facing, towards, np.float32(-1))
        u = t * dot(u_axis, directions) - np.float32(offset @ u_axis)
        v = t * dot(v_axis, directions) - np.float32(offset @ v_axis)
        inside = facing & (t > 0) & (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
        return Hit(np.where(inside, t, np.float32(np.inf)), u, v)

    def sample(self, u: Array, v: Array) -> tuple[Array, Array]:
        positions = self.corner + u[..., None] * self.u_edge + v[..., None] * self.v_edge
        return positions, np.broadcast_to(self.normal, positions.shape)

    def bounds(self) -> Array:
        u, v = np.array([0, 1, 0, 1], np.float32), np.array([0, 0, 1, 1], np.float32)
        return self.sample(u, v)[0]

    def faces(self, eye: Array) -> bool:
        return bool((eye - self.corner) @ self.normal > 0)


@dataclass(frozen=True)
class Sphere:
    """A ball with a map of longitude (u) and latitude from the top (v)."""

    center: Array  # [3] metres
    radius: float  # metres
    material: Material

    @property
    def size(self) -> tuple[float, float]:
        return 2 * np.pi * self.radius, np.pi * self.radius

    def intersect(self, origin: Array, directions: Array) -> Hit:
        offset = (origin - self.center).astype(np.float32)
        a = (directions * directions).sum(0)
        b = dot(offset, directions)
        discriminant = b * b - a * np.float32(offset @ offset - self.radius**2)
        t = (-b - np.sqrt(np.maximum(discriminant, 0))) / a
        x, y, z = (offset[:, None] + t * directions) / np.float32(self.radius)
        u = np.arctan2(y, x) / np.float32(2 * np.pi) + np.float32(0.5)
        v = np.arccos(np.clip(z, -1, 1)) / np.float32(np.pi)
        return Hit(np.where((discriminant > 0) & (t > 0), t, np.float32(np.inf)), u, v)

    def sample(self, u: Array, v: Array) -> tuple[Array, Array]:
        longitude, latitude = (u - 0.5) * 2 * np.pi, v * np.pi
        ring = np.sin(latitude)
        normals = np.stack([np.cos(longitude) * ring, np.sin(longitude) * ring, np.cos(latitude)], -1)
        return (self.center + self.radius * normals).astype(np.float32), normals.astype(np.float32)

    def bounds(self) -> Array:
        return (self.center + self.radius * _CUBE).astype(np.float32)

    def faces(self, eye: Array) -> bool:
        return True


@dataclass(frozen=True)
class Cylinder:
    """The side of an upright cylinder: u runs around, v from the top down."""

    base: Array  # [3] metres, centre of the bottom
    radius: float  # metres
    height: float  # metres
    material: Material

    @property
    def size(self) -> tuple[float, float]:
        return 2 * np.pi * self.radius, self.height

    def intersect(self, origin: Array, directions: Array) -> Hit:
        offset = (origin - self.base).astype(np.float32)
        a = np.maximum(directions[0] ** 2 + directions[1] ** 2, np.float32(1e-12))
        b = offset[0] * directions[0] + offset[1] * directions[1]
        discriminant = b * b - a * np.float32(offset[:2] @ offset[:2] - self.radius**2)
        t = (-b - np.sqrt(np.maximum(discriminant, 0))) / a
        x, y, z = offset[:, None] + t * directions
        u = np.arctan2(y, x) / np.float32(2 * np.pi) + np.float32(0.5)
        v = 1 - z / np.float32(self.height)
        inside = (discriminant > 0) & (t > 0) & (v >= 0) & (v <= 1)
        return Hit(np.where(inside, t, np.float32(np.inf)), u, v)

    def sample(self, u: Array, v: Array) -> tuple[Array, Array]:
        longitude = (u - 0.5) * 2 * np.pi
        normals = np.stack([np.cos(longitude), np.sin(longitude), np.zeros_like(longitude)], -1)
        positions = self.base + self.radius * normals
        positions[..., 2] += (1 - v) * self.height
        return positions.astype(np.float32), normals.astype(np.float32)

    def bounds(self) -> Array:
        half = np.array([self.radius, self.radius, self.height / 2], np.float32)
        return (self.base + [0, 0, self.height / 2] + half * _CUBE).astype(np.float32)

    def faces(self, eye: Array) -> bool:
        return True


@dataclass(frozen=True)
class Occluder:
    """A box that casts shadows, turned about the vertical."""

    center: Array  # [3] metres
    half: Array  # [3] metres
    yaw: float = 0.0  # radians

    def blocks(self, origins: Array, directions: Array, reach: Array) -> NDArray[np.bool_]:
        """Whether segments [3, R] + t [3, R], 0 < t < reach [R], cross the box (slab method)."""
        cosine, sine = np.float32(np.cos(self.yaw)), np.float32(np.sin(self.yaw))
        enter, leave = np.zeros_like(reach), reach
        axes = ((cosine, sine, 0), (-sine, cosine, 0), (0, 0, 1))  # of the box, in the world
        for axis, half in zip(np.array(axes, np.float32), self.half):
            start, along = dot(axis, origins) - axis @ self.center, dot(axis, directions)
            inverse = 1 / np.where(np.abs(along) < 1e-7, np.float32(1e-7), along)
            first, second = (-half - start) * inverse, (half - start) * inverse
            enter = np.maximum(enter, np.minimum(first, second))
            leave = np.minimum(leave, np.maximum(first, second))
        return leave > enter


@dataclass
class Solid:
    """Surfaces and the shadows they cast; what furniture is made of."""

    surfaces: list[Surface] = field(default_factory=list)
    occluders: list[Occluder] = field(default_factory=list)

    def add(self, *others: "Solid") -> "Solid":
        """Add the surfaces and occluders of `others`."""
        for other in others:
            self.surfaces += other.surfaces
            self.occluders += other.occluders
        return self


# Faces of a box as (corner, u, v) in units of half sizes: front (-y), back, left (-x), right, top, bottom.
_FACES = {
    "front": ((-1, -1, 1), (2, 0, 0), (0, 0, -2)),
    "back": ((1, 1, 1), (-2, 0, 0), (0, 0, -2)),
    "left": ((-1, 1, 1), (0, -2, 0), (0, 0, -2)),
    "right": ((1, -1, 1), (0, 2, 0), (0, 0, -2)),
    "top": ((-1, 1, 1), (2, 0, 0), (0, -2, 0)),
    "bottom": ((-1, -1, -1), (2, 0, 0), (0, 2, 0)),
}


def box(center: Array, size: Array, materials: dict[str, Material], yaw: float = 0.0) -> Solid:
    """A box of `size` metres standing around `center`, turned by `yaw` radians about the vertical.

    `materials` names faces (front = -y, back, left, right, top, bottom); "rest" is for the others, and a face
    with neither is left open.
    """
    center, half = np.asarray(center, np.float32), np.asarray(size, np.float32) / 2
    cosine, sine = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    surfaces: list[Surface] = []
    for name, frame in _FACES.items():
        material = materials.get(name, materials.get("rest"))
        if material is not None:
            corner, u_edge, v_edge = ((turn @ (np.array(axis) * half)).astype(np.float32) for axis in frame)
            surfaces.append(Quad(center + corner, u_edge, v_edge, material))
    return Solid(surfaces, [Occluder(center, half, yaw)])


def dot(vector: Array, vectors: Array) -> Array:
    """Products [R] of one vector [3] with many [3, R], skipping zeros."""
    terms = [np.float32(vector[i]) * vectors[i] for i in range(3) if vector[i]]
    return sum(terms[1:], terms[0]) if terms else np.zeros(vectors.shape[1:], np.float32)


_CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
