"""Layout 3: `transforms.json` of NeRF, instant-ngp, nerfstudio and NeRFCapture.

Poses are camera-to-world with OpenGL axes (y up, z backward). Intrinsics are in the document or in a frame,
which takes precedence; they are for an image of `w` x `h`. `integer_depth_scale` are the metres per value of
depth images. Scale, `aabb_scale` and so on are ignored.
"""

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from gsplatloc.scene.cameras import PoseConvention, Scene, SparsePoints, View
from gsplatloc.scene.image_header import DamagedImageError, open_image
from gsplatloc.scene.images import DEPTH_UNITS_PER_METRE, image_size
from gsplatloc.scene.readers import READERS
from gsplatloc.scene.readers.image_finder import ImageFinder
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.scene.readers.point_cloud import read_points
from gsplatloc.scene.readers.poses import rigid_from_matrix
from gsplatloc.scene.readers.tally import Tally
from gsplatloc.scene.readers.transforms_camera import Record, camera_model_of, contradicting_angle, number
from gsplatloc.scene.readers.views import UNREAD_DEPTH, make_view, split_test_views
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError, quoted
from gsplatloc.utils.io import read_json

_OPENGL_FROM_OPENCV = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))


@READERS.register(
    "transforms",
    help="transforms.json (nerfstudio, NeRFCapture)",
    priority=30,
)
class TransformsReader:
    """Reads layout 3: one file, or `transforms_train.json` with `transforms_test.json`."""

    def is_recording(self, path: Path) -> bool:
        """Whether it is of NeRFCapture, which stores depth beside the images."""
        return (path / "transforms.json").is_file() and any((path / "images").glob("*.depth.png"))

    def matches(self, path: Path) -> bool:
        return (path / "transforms.json").is_file() or (path / "transforms_train.json").is_file()

    def read(self, path: Path, options: SceneOptions) -> Scene:
        single, tally = path / "transforms.json", Tally()
        if single.is_file():
            document = read_document(single)
            train, test = _read_single(path, document, options, tally)
        else:
            document = read_document(path / "transforms_train.json")
            train = _by_name(_read_frames(path, document, "frames", options, tally))
            test = _by_name(_read_test_file(path, options, tally))
        _note_unread(path, single.is_file(), tally)
        if not train:
            raise tally.nothing_left(f"the images listed in the transforms file of {path}", "check file_path")
        convention = PoseConvention(opengl_axes=True)
        return tally.scene(path, train, test, _points(path, document), convention)


def _note_unread(path: Path, single: bool, tally: Tally) -> None:
    """Say which transforms files are not read: of other splits than are used, or beside one of all frames."""
    unread = [f"transforms_{split}.json" for split in ("train", "val", "test") if single or split == "val"]
    if found := [name for name in unread if (path / name).is_file()]:
        beside = ", because there is a transforms.json: its frames are used" if single else ""
        tally.note(f"{' and '.join(found)} not read{beside}")


def read_document(file: Path) -> Record:
    """The JSON object in a transforms file."""
    document = read_json(file)
    if not isinstance(document, dict):
        raise GSplatLocError(f"expected a JSON object in {file}, found a list or value: export it again")
    return document


def _read_single(
    path: Path, document: Record, options: SceneOptions, tally: Tally
) -> tuple[list[View], list[View]]:
    """(train, test) of one file, which may hold a split in either of nerfstudio's forms."""
    views = _read_frames(path, document, "frames", options, tally)
    if "test_frames" in document:
        return _by_name(views), _by_name(_read_frames(path, document, "test_frames", options, tally))
    spellings = _spellings(path, document, views)
    train_names, test_names, val_names = (
        _listed_names(document, f"{split}_filenames", spellings) for split in ("train", "test", "val")
    )
    if train_names is None and test_names is None:
        return split_test_views(list(views.values()), options)
    frames = set(spellings.values())
    if unknown := sorted(((train_names or set()) | (test_names or set())) - frames):
        tally.note(
            f"{len(unknown)} names of train_filenames and test_filenames are of no frame, for example"
            f" {quoted(unknown[0])}"
        )
    if train_names is not None and not train_names & frames:
        raise GSplatLocError(
            f"expected frames of the transforms file of {path} in its train_filenames, found"
            f" {quoted(next(iter(unknown), 'none'))}: correct the names"
        )
    if test_names is None:  # what is no training image is a test image, unless it is for validation
        test_names = set(views) - (train_names or set()) - (val_names or set())
    if both := sorted((train_names or set()) & test_names):
        tally.note(
            f"{len(both)} images of train_filenames and of test_filenames, for example"
            f" {quoted(both[0])}, are test images"
        )
    train_names = set(views) - test_names if train_names is None else train_names - test_names
    tally.leave_out(
        "in neither train_filenames nor test_filenames", len(set(views) - train_names - test_names)
    )
    train, test = (
        {name: view for name, view in views.items() if name in names} for names in (train_names, test_names)
    )
    return _by_name(train), _by_name(test)


def _spellings(path: Path, document: Record, views: Mapping[str, View]) -> dict[str, str]:
    """The frames' keys in `views` by every name that a split may have for them.

    These are the name in file_path, that of the file on disk, whose suffix may be missing in file_path, and
    that of the view, which with `--images` is another file.
    """
    listed = [listed_image(frame) for frame in frames_of(document, "frames", path)]
    files, found = ImageFinder(path, listed, None), {}
    for name in listed:
        key, file = _posix(name), files.find(name)
        if file is not None:
            found[files.name(name, file)] = key
        if key in views:
            found[views[key].name] = key
    return found | {_posix(name): _posix(name) for name in listed}


def _listed_names(document: Record, key: str, spellings: Mapping[str, str]) -> set[str] | None:
    """The images of a split by their keys, others as they are; None if the document has no such list."""
    names = document.get(key)
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise GSplatLocError(f"expected a list of file names for {key} in the transforms file: correct it")
    names = [_posix(name.replace("\\", "/")) for name in names]
    return {spellings.get(name, name) for name in names}


def _posix(name: str) -> str:
    return PurePosixPath(name).as_posix()


def _read_test_file(path: Path, options: SceneOptions, tally: Tally) -> dict[str, View]:
    test_file = path / "transforms_test.json"
    if not test_file.is_file():
        return {}
    return _read_frames(path, read_document(test_file), "frames", options, tally)


def frames_of(document: Record, key: str, path: Path) -> list[Record]:
    """The list `key` of frames; `path` names the file's place in errors."""
    frames = document.get(key)
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise GSplatLocError(
            f"expected a list {key!r} in the transforms file of {path}, found none: export it again"
        )
    return frames


def _read_frames(
    path: Path, document: Record, key: str, options: SceneOptions, tally: Tally
) -> dict[str, View]:
    """The views of a list of frames by the images' names in it, wherever they were found."""
    frames = frames_of(document, key, path)
    shared = {key: value for key, value in document.items() if key not in ("frames", "test_frames")}
    files = ImageFinder(path, [listed_image(frame) for frame in frames], options.images)
    tally.found += len(frames)
    metres = number(document, "integer_depth_scale", 0.0)
    units = 1 / metres if metres > 1e-9 else DEPTH_UNITS_PER_METRE
    views: dict[str, View] = {}
    names: set[str] = set()  # of views
    for frame in frames:
        image_path = files.find(listed_image(frame))
        if image_path is None:
            missing = listed_image(frame)
            tally.leave_out("listed in the transforms file but not on disk", example=missing)
            continue
        cam_from_world = pose_of(frame, image_path) if options.require_poses else torch.eye(4).double()
        if cam_from_world is None:
            tally.leave_out("their poses are not finite")
            continue
        with tally.damaged(image_path, options):
            record = shared | dict(frame)
            size = _calibrated_size(path, record, listed_image(frame), image_path, options)
            camera_model = camera_model_of(record, size)
            if (contradiction := contradicting_angle(record, camera_model)) is not None:
                tally.note(contradiction, "contradicting angle")
            depth_path = _depth_of(path, frame, tally)
            mask_path = _file_of(path, frame, ("mask_path",), tally)
            name = files.name(listed_image(frame), image_path)
            if name in names:
                raise GSplatLocError(
                    f"expected each image once in the transforms file of {path}, found {quoted(name)} twice:"
                    " remove one"
                )
            names.add(name)
            views[_posix(listed_image(frame))] = make_view(
                name, image_path, camera_model, cam_from_world, options, depth_path,
                mask_path=mask_path, units_per_metre=units,
            )  # fmt: skip
    return views


def _calibrated_size(
    path: Path, record: Record, listed: str, image: Path, options: SceneOptions
) -> tuple[int, int]:
    """The (width, height) that intrinsics without w and h are for: of the image that is listed.

    With `--images` others are read, whose size is another one.
    """
    if options.images is None or {"w", "h"} <= record.keys() or not {"fl_x", "fl_y"} & record.keys():
        return image_size(image)
    original = ImageFinder(path, [listed], None).find(listed)
    if original is None:
        raise GSplatLocError(
            f"expected w and h in the transforms file of {path}, found none: add the size of the image that"
            f" fl_x is for, since {quoted(options.images)} may have another one"
        )
    return image_size(original)


def listed_image(frame: Record) -> str:
    """The image that a frame names, with forward slashes."""
    listed = frame.get("file_path")
    if not isinstance(listed, str) or not listed.strip("./\\"):
        raise GSplatLocError(
            f"expected the name of an image for file_path in the transforms file, found"
            f" {quoted(repr(listed))}: export it again"
        )
    return listed.replace("\\", "/")


def _depth_of(path: Path, frame: Record, tally: Tally) -> Path | None:
    """The depth image of a frame. NeRFCapture's own are pictures of depth, of 8 bits: they have no metres."""
    file = _file_of(path, frame, ("depth_file_path", "depth_path"), tally)
    if file is None or file.suffix.lower() == ".npy":
        return file
    if file.suffix.lower() in UNREAD_DEPTH:
        tally.note(
            f"depth is left out, for example {quoted(file.name)}, which is of a kind that is not read",
            "format of depth",
        )
        return None
    try:
        with open_image(file) as image:
            if image.mode[0] in "IF":
                return file
    except DamagedImageError:
        return file  # reported when it is needed
    tally.note(
        f"depth is left out, for example {quoted(file.name)}, since it does not have 16 bits", "bits of depth"
    )
    return None


def _file_of(path: Path, frame: Record, keys: tuple[str, ...], tally: Tally) -> Path | None:
    """The file that a frame has beside its image, under the first of `keys`; None if there is none."""
    key = next((key for key in keys if frame.get(key)), keys[0])
    listed = frame.get(key)
    if not isinstance(listed, str) or not listed:
        return None
    listed = listed.replace("\\", "/")
    folder = key.partition("_")[0]  # depth or mask
    names = listed, f"{folder}/{PurePosixPath(listed).name}", f"{folder}s/{PurePosixPath(listed).name}"
    for candidate in (path / name for name in names):
        if os.path.isfile(candidate):
            return candidate
    tally.note(f"some files of {key} are not on disk, for example {quoted(listed)}", f"missing {key}")
    return None


def pose_of(frame: Record, image_path: Path) -> Tensor | None:
    """cam_from_world [4, 4] of a frame; None if it is not finite, or null."""
    source = f"transform_matrix of {image_path.name}"
    if frame.get("transform_matrix", ()) is None:
        return None
    try:
        world_from_camera_gl = np.array(frame["transform_matrix"], dtype=np.float64)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise GSplatLocError(
            f"expected a 4x4 {source}, found none: export the transforms file again"
        ) from None
    world_from_cam = rigid_from_matrix(world_from_camera_gl, source)
    if world_from_cam is None:
        return None
    return se3.inverse(world_from_cam @ _OPENGL_FROM_OPENCV)


def _points(path: Path, document: Record) -> SparsePoints | None:
    listed = document.get("ply_file_path")
    if not isinstance(listed, str) or not listed:
        return None
    file = path / listed.replace("\\", "/")
    return read_points(file) if os.path.isfile(file) else None


def _by_name(views: Mapping[str, View]) -> list[View]:
    return sorted(views.values(), key=lambda view: view.name)
