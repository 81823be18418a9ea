"""Options of set-up, in a module that loads neither torch nor numpy: a command line is parsed with it."""

from dataclasses import dataclass
from typing import Literal

MARKER = "setup.json"  # written last into a complete scene: the settings that it was made with

SevenScenesPoses = Literal["original", "calibrated", "pgt"]
SevenScenesDepth = Literal["none", "calibrated"]
TwelveScenesPoses = Literal["original", "pgt"]
Matching = Literal["auto", "exhaustive", "sequential"]
CameraSharing = Literal["single", "per_folder", "per_image"]


@dataclass(frozen=True)
class MappingOptions:
    """Which images are matched, and the model of their cameras."""

    matching: Matching = "auto"  # all pairs, neighbours by name (video), or either by the number of images
    cameras: CameraSharing = "single"  # which images of one size share a calibration
    camera_model: str = "SIMPLE_RADIAL"  # COLMAP's name; OPENCV for wide angles, OPENCV_FISHEYE for fisheye
    max_features: int = 8192  # SIFT keypoints per image


@dataclass(frozen=True)
class RoomOptions:
    """Size, number and quality of the room's images."""

    width: int = 320  # pixels
    height: int = 256  # pixels; like the width a multiple of 32, XFeat's stride
    train: int = 80  # training views, on one loop of about 7.4 m
    test: int = 20  # test views, 5 to 12 cm off that loop and up to 8 degrees turned
    arc: float = 1.0  # fraction of the loop that the views cover, in (0, 1]
    seed: int = 0  # seed of the textures, the test poses and the noise
    supersampling: int = 2  # rays per pixel along each axis
    noise: float = 1.0  # grey levels, standard deviation of the sensor noise


@dataclass(frozen=True)
class BuildingOptions:
    """Rooms, and the number and quality of the images."""

    rooms: int = 4  # on both sides of a corridor, two for each 4.7 m of it
    room_views: int = 60  # mapping images of each room
    corridor_views: int = 30  # mapping images of each 4.7 m of the corridor
    room_tests: int = 8  # test images of each room, 5 to 12 cm off the walk and up to 8 degrees turned
    corridor_tests: int = 4  # test images of each 4.7 m of the corridor, likewise
    furnishings: int = 4  # rooms of one furnishing differ in every second poster only
    width: int = 160  # pixels
    height: int = 128  # pixels; like the width a multiple of 32, XFeat's stride
    seed: int = 0  # seed of textures, test poses and noise
    supersampling: int = 2  # rays per pixel along each axis
    noise: float = 1.0  # grey levels, standard deviation of the sensor noise
