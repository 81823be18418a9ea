"""What a reader found in a scene, what it used, and what it left out and why."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gsplatloc.scene.cameras import PoseConvention, Scene, SparsePoints, View
from gsplatloc.scene.image_header import DamagedImageError
from gsplatloc.scene.intrinsics import doubt
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.utils.errors import GSplatLocError, quoted

_REPORT_LENGTH = 2000  # characters


class Tally:
    """Counts images while a scene is read; `scene` attaches the line that commands print."""

    def __init__(self) -> None:
        self.found = 0  # images that the scene lists
        self._left_out: Counter[str] = Counter()  # by reason
        self._examples: dict[str, str] = {}  # the first name, by reason
        self._damaged: list[str] = []  # names of images, the first with what was found
        self._action = ""  # that brings back the damaged images
        self._notes: dict[tuple[str, str], str] = {}  # by kind, and by text where there is none

    def leave_out(self, why: str, count: int = 1, example: str | None = None) -> None:
        """Count images that are not used; `example` is the name of one."""
        if count:
            self._left_out[why] += count
        if example is not None:
            self._examples.setdefault(why, f", for example {example}")

    def note(self, text: str, kind: str | None = None) -> None:
        """Add what else a user should know of how the scene was read; of one kind only the first text."""
        self._notes.setdefault((kind, "") if kind else ("", text), text)

    @contextmanager
    def damaged(self, image: Path, options: SceneOptions) -> Iterator[None]:
        """Leave out an image whose header cannot be read; raise if `options.strict`."""
        try:
            yield
        except DamagedImageError as error:
            if options.strict:
                raise
            self._damaged.append(f"{image.name}: {error.found}")
            self._action = self._action or error.action

    def nothing_left(self, expected: str, action: str) -> GSplatLocError:
        """The error of a scene without any image that can be used."""
        reasons = quoted(self._reasons() or "none")
        return GSplatLocError(f"expected {expected}, found {reasons}: {self._action or action}")

    def scene(
        self,
        path: Path,
        train: list[View],
        test: list[View],
        points: SparsePoints | None = None,
        convention: PoseConvention | None = None,
    ) -> Scene:
        """The scene with its report: one line of what was found, used and left out, and why.

        `convention`: of the poses in its files; None for camera-to-world matrices with OpenCV axes.
        """
        for views in (train, test):
            names = Counter(view.name for view in views)
            if repeated := [name for name, count in names.items() if count > 1]:
                found = quoted(repeated[0])
                raise GSplatLocError(f"expected each image once in {path}, found {found} twice: remove one")
        doubts = [(view, text) for view in (*train, *test) if (text := doubt(view.camera)) is not None]
        if doubts:
            view, found = doubts[0]
            self.note(
                f"warning: {len(doubts)} images have doubtful intrinsics, for example {view.name} {found}:"
                " correct them, unless the images are parts of larger ones or their pixels are not square"
            )
        mapped = {_content(view) for view in train} if test else set()
        if same := [view for view in test if _content(view) in mapped]:
            self.note(
                f"warning: {len(same)} test images are training images, too, for example {same[0].name}:"
                " their errors say nothing of other images"
            )
        used = f"{len(train)} training and {len(test)} test images" if test else f"{len(train)} images"
        report = f"{path}: found {self.found} images, used {used}"
        left_out = self._reasons()
        action = f": {self._action}" if self._action else ""
        parts = [report, *([f"left out {left_out}{action}"] if left_out else []), *self._notes.values()]
        name, convention = path.resolve().name, convention or PoseConvention()
        report = quoted("; ".join(parts), _REPORT_LENGTH)  # names of files may hold line breaks
        return Scene(name, path, train, test, points, report, convention)

    def _reasons(self) -> str:
        reasons = [f"{count} ({why}){self._examples.get(why, '')}" for why, count in self._left_out.items()]
        if self._damaged:
            reasons.append(f"{len(self._damaged)} (damaged, for example {self._damaged[0]})")
        return ", ".join(reasons)


def _content(view: View) -> tuple[bytes, int]:
    """The pose, and the size of the image file, which tell views of one photo; -1 where the file is gone."""
    try:
        size = os.path.getsize(view.image_path)
    except OSError:
        size = -1
    return (view.cam_from_world + 0.0).numpy().tobytes(), size  # 0 and -0 are one number
