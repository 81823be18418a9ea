"""Files of 3D Gaussians as other tools write them: one protocol, one file per format.

A format is recognised by the first bytes of a file, else by its suffix. In memory a splat is always the
stored parameters of 3DGS: log scales, opacity logits, quaternions wxyz, in the axes of a .ply (most often y
points down).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError, decoding, pointer_of_git_lfs, quoted
from gsplatloc.utils.registry import Registry

if TYPE_CHECKING:  # for annotations only: a command line is parsed without torch
    from torch import Tensor

    from gsplatloc.scene.cameras import PosedCamera
    from gsplatloc.scene.formats.seen_colours import StoredHarmonics
    from gsplatloc.scene.gaussians import Gaussians

_HEAD = 4096  # bytes of a file from which its format is recognised
_SINGLE_STEP = 2.0**-23  # relative distance between neighbouring numbers of single precision
_SHORT = 1e-15  # of a quaternion: smaller squares lose digits in single precision
_LEAST_ROUNDING = 1e-5  # of the splat's extent
_LONGEST = 1e18  # units: the squares of longer ones are beyond single precision
_OPAQUE = 30.0  # logit: the opacity is 1 in single precision


class SplatFormat(Protocol):
    """Reads and writes one format, without descriptors. Both raise `GSplatLocError` where they cannot."""

    suffix: str  # of its files, with the dot
    changes: str  # what a written file loses or reorders; empty if it is read back bit by bit

    def matches(self, path: Path, head: bytes) -> bool:
        """Whether a file that starts with `head` has this format."""
        ...

    def read(self, path: Path) -> Gaussians: ...

    def write(self, path: Path, gaussians: Gaussians) -> None:
        """Write the file, atomically."""
        ...


@runtime_checkable
class CoarseHarmonics(Protocol):
    """A format that stores some coefficients of spherical harmonics more coarsely than others."""

    def stored_harmonics(self, sh: Tensor) -> StoredHarmonics:
        """What a written file keeps of coefficients [N, K, 3] of degree 0 to 3."""
        ...


# Factories (the formats' classes) take no argument.
SPLAT_FORMATS = Registry[SplatFormat]("splat format", __name__, has_options=False)


def is_splat_file(path: Path) -> bool:
    """Whether the name is that of a splat, in contrast to a map's folder."""
    return path.name.lower().endswith(tuple(entry.make().suffix for entry in SPLAT_FORMATS.entries()))


def read_splat(path: Path | str, double: bool = False) -> Gaussians:
    """The Gaussians, without descriptors, of a file of any of `SPLAT_FORMATS`.

    `double`: means that the file has in double precision keep it, for the caller to move them near the
    origin. Raises `GSplatLocError` for a damaged file, and for means so far from the origin that their
    precision is coarser than the Gaussians.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except FileNotFoundError:
        raise GSplatLocError(f"expected a file {path}, found none: check the path") from None
    except OSError as error:
        raise GSplatLocError(f"expected a splat in {path}, found {quoted(error)}: check the path") from None
    if not head:
        raise GSplatLocError(f"expected a splat in {path}, found an empty file: restore it")
    if (pointer := pointer_of_git_lfs(head)) is not None:
        raise GSplatLocError(f"expected a splat in {path}, found {pointer}")
    formats = [entry.make() for entry in SPLAT_FORMATS.entries()]
    for format in formats:
        if format.matches(path, head):
            with decoding("a splat", path, "restore it"):
                read = format.read(path)
                _check_shapes(read)
            found = _without_broken_rows(_with_rotations(read, path), path)
            _check_digits(found, path, double)
            return found if double else replace(found, means=found.means.float())
    known = ", ".join(sorted(format.suffix for format in formats))
    raise GSplatLocError(f"expected a splat ({known}) in {path}, found another kind of file: restore it")


def _check_shapes(gaussians: Gaussians) -> None:
    """Raise ValueError for columns of another width than a Gaussian has."""
    for name, shape in {"means": (3,), "quaternions": (4,), "log_scales": (3,), "opacity_logits": ()}.items():
        found, expected = tuple(getattr(gaussians, name).shape), (len(gaussians), *shape)
        if found != expected:
            raise ValueError(f"{name} of shape {found} instead of {expected}")


def splat_format(path: Path | str) -> str:
    """The name of the format that a file called `path` is written in."""
    entries = SPLAT_FORMATS.entries()
    found = [entry for entry in entries if Path(path).name.lower().endswith(entry.make().suffix)]
    if not found:
        known = ", ".join(sorted(entry.make().suffix for entry in entries))
        raise GSplatLocError(f"expected a file name that ends with one of {known}, found {path}: rename it")
    return max(found, key=lambda entry: len(entry.make().suffix)).name  # .compressed.ply before .ply


def write_splat(
    path: Path | str,
    gaussians: Gaussians,
    format: str | None = None,
    views: Sequence[PosedCamera] = (),
) -> None:
    """Write Gaussians, without descriptors, in `format`, by default that of the file's name.

    `views` are cameras that see them. Where the format rounds coefficients of their colours, or leaves some
    out, the others are changed so that the colours seen from there stay as they are.
    """
    if len(gaussians) == 0 and (format or splat_format(path)) != "ply":
        raise GSplatLocError(f"expected Gaussians to write to {path}, found none: relax the filters")
    member = SPLAT_FORMATS[format or splat_format(path)].make()
    if views and isinstance(member, CoarseHarmonics):
        from gsplatloc.scene.formats.seen_colours import with_seen_colours
        from gsplatloc.scene.formats.values import capped

        gaussians = capped(gaussians)
        gaussians = with_seen_colours(gaussians, member.stored_harmonics(gaussians.sh), views)
    member.write(Path(path), gaussians)


def broken(path: Path, found: object) -> GSplatLocError:
    """The error of a splat file that cannot be read."""
    return GSplatLocError(
        f"expected a complete {path.suffix} splat in {path}, found {quoted(found)}: restore it"
    )


def _with_rotations(gaussians: Gaussians, path: Path) -> Gaussians:
    """Quaternions too short or long for their type are scaled; zeros become no rotation, with a count."""
    import torch  # as below

    found = gaussians.quaternions
    length = found.norm(dim=1)
    largest = found.abs().max(dim=1).values if len(found) else length
    lost = ((length < _SHORT) | length.isinf()) & (largest > 0) & largest.isfinite()
    scaled = torch.where(lost[:, None], found / largest[:, None], found)
    none = largest == 0
    if bool(none.any()):
        log(
            f"{path}: {int(none.sum())} of {len(found)} Gaussians have a quaternion of zeros, taken as no"
            " rotation",
            stream=sys.stderr,
        )
    identity = torch.tensor([1.0, 0.0, 0.0, 0.0]).to(found)
    return replace(gaussians, quaternions=torch.where(none[:, None], identity, scaled))


def _check_digits(gaussians: Gaussians, path: Path, double: bool) -> None:
    """Raise `GSplatLocError` if the means are rounded by more than half of the median Gaussian's size.

    And by more than 1e-5 of the splat's extent: splats of points have sizes near zero.
    """
    if len(gaussians) == 0 or (double and gaussians.means.dtype.itemsize == 8):
        return
    means = gaussians.means.double()
    middle = means.median(0).values
    step = middle.abs().max().item() * _SINGLE_STEP
    extent = (means - middle).norm(dim=1).median().item()
    size = gaussians.scales.max(1).values.median().item()
    if step > max(0.5 * size, _LEAST_ROUNDING * extent):
        raise GSplatLocError(
            f"expected a splat near the origin in {path}, found its middle {middle.abs().max():.6g} away,"
            f" where single precision has steps of {step:.2g} and the median Gaussian a size of {size:.2g}:"
            " write it relative to a point in its middle, or pass a .ply with x, y, z in double precision to"
            " gsplatloc from-splat"
        )


def _without_broken_rows(gaussians: Gaussians, path: Path) -> Gaussians:
    """Leave out, with a count on stderr, Gaussians that other tools write with NaN or infinite values.

    A scale of -inf has no size, an opacity of -inf cannot be seen, one of +inf is opaque: that is kept.
    Lengths of 1e18 and more, as damaged files have, cannot be rendered either.
    """
    import torch  # as above: loaded where a splat is read, not with this module

    from gsplatloc.scene.feature_file import FEATURES_NAME

    logits = gaussians.opacity_logits
    gaussians = replace(gaussians, opacity_logits=torch.where(logits.isposinf(), _OPAQUE, logits))
    # Lengths whose squares have no number: as good as infinite.
    usable = (gaussians.log_scales < math.log(_LONGEST)).all(1) & (gaussians.means.abs() < _LONGEST).all(1)
    for tensor in gaussians.per_gaussian().values():
        usable &= tensor.reshape(len(tensor), tensor[:1].numel()).isfinite().all(1)
    if bool(usable.all()):
        return gaussians
    if not bool(usable.any()):
        raise GSplatLocError(f"expected finite Gaussians in {path}, found NaN or infinity in all: train anew")
    if path.with_name(FEATURES_NAME).is_file():
        raise GSplatLocError(
            f"expected finite Gaussians in {path}, found NaN or infinity in {int((~usable).sum())}, which"
            f" {FEATURES_NAME} describes: train anew"
        )
    log(f"{path}: left out {int((~usable).sum())} of {len(usable)} Gaussians: not finite", stream=sys.stderr)
    return gaussians.select(usable)
