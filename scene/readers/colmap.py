"""Layout 2: a COLMAP model (`sparse/0`, `sparse` or the folder itself) beside `images/`.

Binary or text, with COLMAP 4's rigs and frames or without, and any camera model. Of several models the one
with the most images is read.
"""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from gsplatloc.scene.cameras import PoseConvention, Scene, View
from gsplatloc.scene.colmap_model import (
    IMAGE_FILES,
    ColmapModel,
    other_poses,
    read_images,
    read_model,
)
from gsplatloc.scene.image_files import image_files, unread_files
from gsplatloc.scene.readers import READERS
from gsplatloc.scene.readers.image_finder import file_on_disk, image_on_disk
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.scene.readers.poses import rigid_from_matrix
from gsplatloc.scene.readers.tally import Tally
from gsplatloc.scene.readers.views import IntrinsicsError, make_view, split_test_views
from gsplatloc.utils.errors import GSplatLocError, quoted


@READERS.register(
    "colmap",
    help="images/ with sparse/0 (COLMAP)",
    # Before transforms.json, which nerfstudio writes beside the model that it was made from.
    priority=40,
)
class ColmapReader:
    """Reads layout 2. The scale of the scene is that of the model."""

    def matches(self, path: Path) -> bool:
        return bool(model_folders(path))

    def read(self, path: Path, options: SceneOptions) -> Scene:
        folders = model_folders(path)
        if not folders:
            raise GSplatLocError(
                f"expected a COLMAP model in {path / 'sparse' / '0'}, found none: run COLMAP"
            )
        tally = Tally()
        folder = _largest(path, folders, tally)
        model = read_model(folder)
        if other_poses(folder, model.images):
            tally.note(
                f"warning: {folder} holds a model in binary and in text files with other poses: the binary"
                " one was read; remove the one that is out of date"
            )
        views = _read_views(path, model, options, tally)
        convention = PoseConvention(camera_to_world=False, quaternion="wxyz")
        return tally.scene(path, *split_test_views(views, options), model.points, convention)


def model_folders(path: Path) -> list[Path]:
    """Folders with a model: `sparse/0` first, then the other places where programs write it."""
    sparse, of_nerfstudio = path / "sparse", path / "colmap" / "sparse"
    numbered = [*sorted(sparse.glob("*")), *sorted(sparse.glob("*/*")), *sorted(of_nerfstudio.glob("*"))]
    folders = dict.fromkeys((sparse / "0", sparse, *numbered, of_nerfstudio, path))
    return [folder for folder in folders if any((folder / name).is_file() for name in IMAGE_FILES)]


def _largest(path: Path, folders: list[Path], tally: Tally) -> Path:
    """The model with the most images; the first of several that are equal."""
    if len(folders) == 1:
        return folders[0]
    counts = {}
    for folder in folders:
        try:
            counts[folder] = len(read_images(folder))
        except GSplatLocError:
            counts[folder] = 0
    chosen = max(folders, key=lambda folder: counts[folder])
    listed = ", ".join(f"{folder.relative_to(path)} ({count} images)" for folder, count in counts.items())
    tally.note(f"took the largest COLMAP model, {chosen.relative_to(path)}, of {listed}")
    return chosen


def _read_views(path: Path, model: ColmapModel, options: SceneOptions, tally: Tally) -> list[View]:
    folder = path / (options.images or "images")
    if not os.path.isdir(folder) and (above := _scene_above(path, folder.name)):
        raise GSplatLocError(f"expected the images in {folder}, found them in {above}: pass {above}")
    if not os.path.isdir(folder):
        raise GSplatLocError(f"expected the images in {folder}, found no such folder: name it with --images")
    tally.found += len(model.images)
    names = [image.name.replace("\\", "/") for image in model.images]  # of COLMAP for Windows
    listed, ends = {folder / name for name in names}, Counter(PurePosixPath(name).name for name in names)
    views: list[View] = []
    used: set[Path] = set()
    refused: list[IntrinsicsError] = []
    for image, name in zip(model.images, names):
        image_path = image_on_disk(folder / name)
        if image_path is not None and image_path.suffix and not PurePosixPath(name).suffix:
            name += image_path.suffix
        if image_path is None and (image_path := _moved(folder, name, ends)):
            name = image_path.relative_to(folder).as_posix()
        cam_from_world = rigid_from_matrix(image.cam_from_world, f"the pose of {image.name}")
        if cam_from_world is None:
            tally.leave_out("their poses are not finite")
        elif image_path is None or (image_path != folder / name and image_path in listed | used):
            tally.leave_out(f"not in {folder}", example=name)
        else:
            with tally.damaged(image_path, options):
                camera_model = model.camera_models[image.camera_id]
                mask = _mask_of(path / "masks", name)
                used.add(image_path)
                try:
                    view = make_view(name, image_path, camera_model, cam_from_world, options, mask_path=mask)
                    views.append(view)
                except IntrinsicsError as error:  # of one camera; models may have one for each image
                    refused.append(error)
    tally.leave_out("of cameras whose intrinsics no lens has", len(refused))
    if refused and (options.strict or not views):
        raise refused[0]
    _note_unposed(folder, listed | used, tally)
    _note_unmasked(path / "masks", views, tally)
    if not views:
        if not model.images:
            raise GSplatLocError(
                f"expected images in the COLMAP model of {path}, found none: run the mapper of COLMAP again"
            )
        first = quoted(model.images[0].name)
        raise tally.nothing_left(f"images like {first} in {folder}", "name it with --images")
    return views


def _moved(folder: Path, name: str, ends: Mapping[str, int]) -> Path | None:
    """The image of a name with other folders than it has now, such as an absolute one of another machine."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "..", ".")]
    for start in range(len(parts)):
        if len(parts) - start > 1 or ends[parts[-1]] == 1:
            found = image_on_disk(folder.joinpath(*parts[start:]))
            if found is not None:
                return found
    return None


def _scene_above(path: Path, images: str) -> Path | None:
    """The folder of the scene if `path` is that of its model."""
    return next((folder for folder in path.absolute().parents[:3] if (folder / images).is_dir()), None)


def _mask_of(folder: Path, name: str) -> Path | None:
    """The mask of an image: a.jpg.png, as COLMAP names it, or a.png, as others do."""
    other = PurePosixPath(name).with_suffix(".png")
    return file_on_disk(folder / f"{name}.png") or file_on_disk(folder / other)


def _note_unmasked(folder: Path, views: list[View], tally: Tally) -> None:
    """Say where a folder of masks has none for some images: their names may be other ones."""
    bare = [view.name for view in views if view.load_mask is None]
    if bare and folder.is_dir():
        tally.note(f"{len(bare)} images have no mask in {folder}, for example {bare[0]}, of {bare[0]}.png")


def _note_unposed(folder: Path, known: set[Path], tally: Tally) -> None:
    """Say how many photos COLMAP gave no pose, or could not read."""
    unposed = [file for file in image_files(folder) if file not in known]
    if unposed:
        tally.note(f"{len(unposed)} images in {folder} are not in the model, for example {unposed[0].name}")
    if unread := unread_files(folder):
        tally.note(f"left out {unread}")
