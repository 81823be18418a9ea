"""Hard conditions of a query, made from a posed image: turned, cropped, shrunk, blurred, dark, occluded.

Every condition changes image, camera and pose together, so that the result is a posed image again. Random
draws come from a generator seeded by the image's name: the same images every time.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from torch import Tensor

from gsplatloc.localization.quarter_turns import turn_estimate, turn_image
from gsplatloc.localization.result import PoseEstimate, Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.images import resize_rgb

_MOTION = 0.03  # length of the motion blur relative to the longer side
_GAMMA, _GAIN = 1.5, 0.5  # of the darkened image
_TINT = (1.0, 0.8, 0.55)  # gain of red, green and blue: lamps instead of daylight
_NOISE = 4.0  # grey levels, standard deviation of the darkened image
_COVERED = 0.3  # share of an image that is occluded
_OBJECTS = 3  # that occlude it


@dataclass(frozen=True)
class Shot:
    """An image with its camera and pose."""

    image: np.ndarray  # [H, W, 3] uint8 RGB
    camera: Camera
    cam_from_world: Tensor  # [4, 4] float64


Condition = Callable[[Shot, np.random.Generator], Shot]


def turned(quarters: int) -> Condition:
    """Turned counterclockwise in the image plane."""

    def turn(shot: Shot, rng: np.random.Generator) -> Shot:
        pose = turn_estimate(PoseEstimate(Status.OK, shot.camera, shot.cam_from_world), quarters)
        return Shot(turn_image(shot.image, quarters), pose.camera, pose.pose())

    return turn


def cropped(shot: Shot, rng: np.random.Generator) -> Shot:
    """The middle of the image, half as wide and half as high: half the field of view."""
    height, width = (side // 2 for side in shot.image.shape[:2])
    x, y = (shot.camera.width - width) // 2, (shot.camera.height - height) // 2
    camera = replace(shot.camera, width=width, height=height, cx=shot.camera.cx - x, cy=shot.camera.cy - y)
    return replace(shot, image=shot.image[y : y + height, x : x + width], camera=camera)


def shrunk(shot: Shot, rng: np.random.Generator) -> Shot:
    """A quarter of the width and height."""
    camera = shot.camera.resized(shot.camera.width // 4, shot.camera.height // 4)
    return replace(shot, image=resize_rgb(shot.image, camera.width, camera.height), camera=camera)


def moved(shot: Shot, rng: np.random.Generator) -> Shot:
    """Blurred along a line of random direction, as by a motion of the camera."""
    length = max(3, round(_MOTION * max(shot.image.shape[:2])))
    kernel, angle = np.zeros((2 * length + 1,) * 2, np.float32), rng.uniform(0, np.pi)
    away = (length / 2 * np.array([np.cos(angle), np.sin(angle)])).round().astype(int)
    start, end = (tuple(int(length + sign * value) for value in away) for sign in (-1, 1))
    cv2.line(kernel, start, end, 1.0)
    blurred = cv2.filter2D(shot.image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)
    return replace(shot, image=blurred)


def darkened(shot: Shot, rng: np.random.Generator) -> Shot:
    """Darker, with more contrast, in another light, and noisy."""
    values = 255 * _GAIN * np.array(_TINT) * (shot.image / 255.0) ** _GAMMA
    noisy = values + rng.normal(0, _NOISE, values.shape)
    return replace(shot, image=noisy.clip(0, 255).astype(np.uint8))


def occluded(shot: Shot, rng: np.random.Generator) -> Shot:
    """Three textured objects, apart from each other, cover 30 % of the image."""
    image = shot.image.copy()
    height, width = image.shape[:2]
    third, share = width / _OBJECTS, _COVERED**0.5
    across, down = round(third * share), round(height * share)
    for number in range(_OBJECTS):
        x = round(number * third + rng.uniform(0, third - across))
        y = round(rng.uniform(0, height - down))
        texture = rng.integers(0, 256, (8, 6, 3)).astype(np.uint8)
        image[y : y + down, x : x + across] = cv2.resize(
            texture, (across, down), interpolation=cv2.INTER_CUBIC
        )
    return replace(shot, image=image)


CONDITIONS: dict[str, Condition] = {
    "plain": lambda shot, rng: shot,
    "turned90": turned(1),
    "turned180": turned(2),
    "turned270": turned(3),
    "cropped": cropped,
    "quarter": shrunk,
    "motion": moved,
    "dark": darkened,
    "occluded": occluded,
}


def under(condition: str, name: str, shot: Shot) -> Shot:
    """The shot called `name` under a condition."""
    return CONDITIONS[condition](shot, np.random.default_rng(zlib.crc32(name.encode())))
