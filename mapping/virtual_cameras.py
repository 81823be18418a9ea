"""Where cameras could stand in a splat of which only the Gaussians are known.

Positions are drawn within and around the splat. Small renderings in four directions tell whether each is a
place to stand: in one of them the picture is like a photograph, with details everywhere and no gaps, and
nothing is right in front of the camera. Further places are found in the free space that is seen from the
first. At the places kept, levelled cameras look into all directions. Views are then chosen one by one, each
the one that shows most of what few places have shown so far, so that several places see every surface.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderOptions, render
from gsplatloc.localization.alignment.rendered_view import shrunk
from gsplatloc.mapping.options import VirtualCameraOptions
from gsplatloc.mapping.splat_frame import core_frame, quantile, share_within, up_direction
from gsplatloc.scene.cameras import Camera, PosedCamera
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils import se3
from gsplatloc.utils.console import log, progress
from gsplatloc.utils.errors import GSplatLocError

_SHAPE = 0.75  # height of the virtual cameras' images, of their width
_MARGIN = 1.0  # searched beyond each side of the core, which is 2 long: objects are seen from outside
_PLACES_DRAWN = 200  # tried anywhere in and around the core
_PLACES_GROWN = 200  # tried in free space that was seen from places
_STEP = (0.2, 0.8)  # from a place on the way to a surface, share of its depth
_PLACES = 48  # kept, as far from each other as possible
_HEIGHT = 0.3  # of distances between places, the weight of their height
_FACE = Camera(80, 45, 40, 40, 40, 22.5)  # one of four that see everything around a place, up to 29 degrees
_SMALL = 80  # pixels, width of the renderings that views are chosen by
_OPAQUE = 0.9  # alpha of a surface
_TOUCHING = 0.08  # depth that means to be within something solid, or to touch it; the core is 2 long
_CLOSE = 0.25  # depth of a surface right in front of the camera, of the median depth of all places
_MOST_CLOSE = 0.05  # share of the surroundings, or of a view, that may be so close
_ANYWHERE = 0.2  # score of a drawn place, of the best one's, below which it is left out
_REACHED = 0.1  # the same of a place that is seen from another one
_CELL = 4  # pixels of small renderings, side of the cells in which something must be seen
_AROUND = 2  # power of the share of directions with a surface in a place's score
_GAPS = 4  # power of the opaque share of a view in its score
_SHARP = 0.25  # score of a view, of that of the best views, below which it is left out
_COUNTED = 200_000  # Gaussians at least of a large splat, that views are chosen by
_SECTORS = 6  # directions all round, in each of which a Gaussian must be seen on its own
_YAWS, _PITCHES_DEG = 12, (-25.0, 0.0, 20.0)
_ON_SURFACE = 0.05  # relative difference of depths of a Gaussian and of the surface that it is part of
_OBJECT = 0.25  # of an object: share of the places that are not beside all of it (objects 0.07, places 0.55)
_ENCLOSED = 0.3  # of an object: mean share of the directions around a place in which something is seen
_OBJECT_UP = (0.0, -1.0, 0.0)  # of .spz and .glb, and of .ply as most tools write it
_OBJECT_TEXT = (
    "the cameras found look at the splat from outside, as at an object: photos from within it cannot be"
    " localized; if it is a place, pass --cameras"
)
_GAINS = (1.0, 1.0, 1.0, 0.5, 0.25)  # of a Gaussian's first, second, ... view
_LEAST_GAIN = 0.02  # of a view, as a share of the first view's: what others show is too little or too coarse


@torch.no_grad()
def find_cameras(
    gaussians: Gaussians, count: int, options: VirtualCameraOptions | None = None, quiet: bool = False
) -> list[PosedCamera]:
    """Up to `count` views of a splat, the same for the same splat, most useful ones first.

    Raises GSplatLocError if no surface of the splat can be seen from anywhere.
    """
    options = options or VirtualCameraOptions()
    frame = core_frame(gaussians)
    gaussians = replace(
        gaussians,
        means=torch.from_numpy(frame.points_in_map(gaussians.means.double().cpu().numpy())).to(gaussians.sh),
        log_scales=gaussians.log_scales - math.log(frame.unit),
    )
    if options.up is not None:
        up, source = torch.tensor(options.up, dtype=torch.float64), "as given"
    else:
        up, source = up_direction(gaussians), "estimated, else pass --up"
    up = up / up.norm()
    places = _places(gaussians, up, quiet)
    is_object = _beside_object(gaussians, places, up)
    if is_object and options.up is None:  # few planes, of no known direction
        up, source = torch.tensor(_OBJECT_UP, dtype=torch.float64), "that of most files, else pass --up"
        places = _places(gaussians, up, quiet)
    candidates = list(_looking_around([place.position for place in places], up, _camera(options)))
    left = _candidates(gaussians, candidates, up, _typical_depth(places), quiet)
    views = _chosen(gaussians, left, count)
    if not views:
        raise GSplatLocError(
            "expected a splat with surfaces to look at, found no view of one: pass --cameras, or check --up"
        )
    x, y, z = (round(value, 2) for value in up.tolist())
    log(f"cameras    {len(views)} virtual ones at {len(places)} places, up is {x} {y} {z} ({source})", quiet)
    if is_object:
        log(f"warning: {_OBJECT_TEXT}", quiet, sys.stderr)
    return [replace(view, cam_from_world=frame.pose_in_world(view.cam_from_world)) for view in views]


def _camera(options: VirtualCameraOptions) -> Camera:
    width, height = options.width, round(_SHAPE * options.width)
    focal = 0.5 * width / math.tan(0.5 * math.radians(options.fov))
    return Camera(width, height, focal, focal, width / 2, height / 2)


@dataclass(frozen=True)
class _Place:
    """What is seen from a position."""

    position: Tensor  # [3] float64
    depths: Tensor  # [4, h, w] z of the surfaces around it, 0 without one
    score: float  # of the best of four views, less where nothing is around it; 0 if it touches something

    def share(self, limit: float) -> float:
        """Share of all directions in which a surface is nearer than `limit`."""
        return ((self.depths > 0) & (self.depths < limit)).float().mean().item()


def _beside_object(gaussians: Gaussians, places: Sequence[_Place], up: Tensor) -> bool:
    """Whether the places are around an object: it is on one side of them, and nothing on the others.

    Photographs of a building outdoors are on one side of it, too, but there is something all round them.
    """
    enclosed = sum(place.share(math.inf) for place in places) / len(places)
    positions = torch.stack([place.position for place in places])
    return enclosed < _ENCLOSED and share_within(gaussians, positions, up) < _OBJECT


def _typical_depth(places: Sequence[_Place]) -> float:
    """The median depth of what is seen from places."""
    return torch.tensor([place.depths[place.depths > 0].median() for place in places]).median().item()


def _places(gaussians: Gaussians, up: Tensor, quiet: bool) -> list[_Place]:
    """Places where a camera could stand."""
    solid = gaussians.means[(gaussians.opacities > 0.5) & (gaussians.means.abs() < 1).all(1)]
    sides = solid.abs().max(0).values.double().cpu() + _MARGIN
    draws = torch.quasirandom.SobolEngine(3, scramble=True, seed=0).draw(_PLACES_DRAWN, dtype=torch.float64)
    with closing(progress(range(_PLACES_DRAWN + _PLACES_GROWN), desc="places", quiet=quiet)) as bar:
        return _spread(_free_places(gaussians, (2 * draws - 1) * sides, _faces(up), bar), up, _PLACES)


def _free_places(
    gaussians: Gaussians, drawn: Tensor, faces: Sequence[Tensor], bar: Iterator[int]
) -> list[_Place]:
    """Places to stand out of the positions `drawn` [P, 3] and others that are seen from them.

    `bar` counts the positions tried, and ends the search.
    """
    tried = [_seen_from(gaussians, position, faces) for position, _ in zip(drawn, bar)]
    best = max(place.score for place in tried)
    free = [place for place in tried if place.score > 0 and place.score >= _ANYWHERE * best]
    if free:
        typical = _typical_depth(free)
        free = [place for place in free if place.share(_CLOSE * typical) <= _MOST_CLOSE]
    if not free:
        raise GSplatLocError("expected a splat with free space and surfaces, found none: pass --cameras")
    generator = torch.Generator().manual_seed(0)
    for _ in bar:
        place = _seen_from(gaussians, _on_the_way(free, faces, 2 * typical, generator), faces)
        if place.score >= _REACHED * best and place.share(_CLOSE * typical) <= _MOST_CLOSE:
            free.append(place)
    return free


def _level_axes(up: Tensor) -> tuple[Tensor, Tensor]:
    """Two level directions [3] at right angles."""
    east = torch.linalg.cross(up, torch.eye(3, dtype=up.dtype)[up.abs().argmin()])
    east = east / east.norm()
    return east, torch.linalg.cross(up, east)


def _faces(up: Tensor) -> list[Tensor]:
    """World-to-camera rotations [3, 3] of four levelled cameras that see everything around."""
    east, north = _level_axes(up)
    origin = torch.zeros(3, dtype=up.dtype)
    return [_looking(origin, axis, up)[:3, :3] for axis in (east, north, -east, -north)]


def _seen_from(gaussians: Gaussians, position: Tensor, faces: Sequence[Tensor]) -> _Place:
    poses = [se3.from_rotation_translation(face, -face @ position) for face in faces]
    seen = [_surface_seen(gaussians, PosedCamera(_FACE, pose)) for pose in poses]
    place = _Place(position, torch.stack([one.depth for one in seen]), 0.0)
    if place.share(_TOUCHING) > _MOST_CLOSE:
        return place
    return replace(place, score=max(one.score for one in seen) * place.share(math.inf) ** _AROUND)


def _on_the_way(
    free: Sequence[_Place], faces: Sequence[Tensor], depth: float, generator: torch.Generator
) -> Tensor:
    """A position [3] on the way from one of the places to a surface, or up to `depth` where none is seen.

    Photographers walk backwards into places of which nothing was photographed.
    """
    place = free[int(torch.randint(len(free), (1,), generator=generator))]
    face, y, x = (int(torch.randint(size, (1,), generator=generator)) for size in place.depths.shape)
    share = _STEP[0] + (_STEP[1] - _STEP[0]) * torch.rand(1, generator=generator).item()
    pixel = torch.tensor([[x + 0.5, y + 0.5]], dtype=torch.float64)
    ray = _FACE.unproject(pixel, torch.ones(1, dtype=torch.float64))[0]
    return place.position + share * (place.depths[face, y, x].item() or depth) * (faces[face].T @ ray)


def _spread(places: list[_Place], up: Tensor, count: int) -> list[_Place]:
    """Up to `count` of the places, each as far as possible from those before it.

    Heights count less: people hold cameras at about the same height.
    """
    if len(places) <= count:
        return places
    positions = torch.stack([place.position for place in places])
    flat = positions - (1 - _HEIGHT) * (positions @ up)[:, None] * up
    chosen = [int((flat - flat.mean(0)).norm(dim=1).argmin())]
    distance = torch.full((len(flat),), torch.inf, dtype=flat.dtype)
    while len(chosen) < count:
        distance = torch.minimum(distance, (flat - flat[chosen[-1]]).norm(dim=1))
        chosen.append(int(distance.argmax()))
    return [places[index] for index in chosen]


def _looking_around(
    places: Sequence[Tensor], up: Tensor, camera: Camera
) -> Iterator[tuple[int, PosedCamera]]:
    """Levelled cameras at `places` that look into all directions, each with the index of its place."""
    east, north = _level_axes(up)
    for index, place in enumerate(places):
        for step in range(_YAWS):
            # Neighbouring places look into directions between each other's.
            yaw = 2 * math.pi * (step + (index % 2) / 2) / _YAWS
            for pitch in map(math.radians, _PITCHES_DEG):
                level = math.cos(yaw) * east + math.sin(yaw) * north
                forward = math.cos(pitch) * level + math.sin(pitch) * up
                yield index, PosedCamera(camera, _looking(place, forward, up))


def _looking(place: Tensor, forward: Tensor, up: Tensor) -> Tensor:
    """The pose [4, 4] of a camera at `place` that looks along `forward`, levelled where that is defined."""
    right = torch.linalg.cross(forward, up)
    if right.norm() < 1e-3:  # straight up or down
        right = torch.linalg.cross(forward, torch.eye(3, dtype=up.dtype)[forward.abs().argmin()])
    right = right / right.norm()
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
    return se3.from_rotation_translation(rotation, -rotation @ place)


@dataclass(frozen=True)
class _Candidate:
    """A view that can be chosen."""

    place: int
    view: PosedCamera
    shown: Tensor  # [K] number of a Gaussian x _SECTORS + the direction from which it is shown
    worth: Tensor  # [K] how far each is resolved, at most 1


def _candidates(
    gaussians: Gaussians, views: Sequence[tuple[int, PosedCamera]], up: Tensor, depth: float, quiet: bool
) -> list[_Candidate]:
    """The views that are like photographs, with what they show.

    A Gaussian counts as far as it is resolved, else views from afar, which show most, would be the best ones.
    """
    looked = []
    for place, view in progress(views, desc="views", quiet=quiet):
        seen = _surface_seen(gaussians, replace(view, camera=shrunk(view.camera, _SMALL)))
        if ((seen.depth > 0) & (seen.depth < _CLOSE * depth)).float().mean() <= _MOST_CLOSE:
            looked.append((place, view, seen))
    best = quantile(torch.tensor([seen.score for *_, seen in looked]), 0.95) if looked else 0.0
    looked = [(place, view, seen) for place, view, seen in looked if seen.score >= max(_SHARP * best, 1e-6)]
    if not looked:
        return []
    usual = torch.cat([seen.sizes for *_, seen in looked]).median()
    return [
        _Candidate(
            place, view, _sector(gaussians, view, seen.index, up), (seen.sizes / usual).clamp(max=1) ** 2
        )
        for place, view, seen in looked
    ]


def _sector(gaussians: Gaussians, view: PosedCamera, index: Tensor, up: Tensor) -> Tensor:
    """The numbers [K] of the Gaussians `index` [K] in the directions from which the view shows them."""
    east, north = _level_axes(up)
    offsets = gaussians.means[index].double().cpu() - se3.camera_center(view.cam_from_world)
    turn = (torch.atan2(offsets @ north, offsets @ east) / (2 * math.pi)) % 1.0
    return index // _stride(gaussians) * _SECTORS + (turn * _SECTORS).long().clamp(max=_SECTORS - 1)


def _stride(gaussians: Gaussians) -> int:
    """Every how many-th Gaussian views are chosen by: time and memory are bounded for large splats."""
    return max(1, len(gaussians) // _COUNTED)


def _chosen(gaussians: Gaussians, left: list[_Candidate], count: int) -> list[PosedCamera]:
    """The views that show, together, as much as possible from several places in each direction.

    Views of one place count once for a Gaussian: nothing can be triangulated from them alone.
    """
    places = 1 + max((one.place for one in left), default=-1)
    numbers = (len(gaussians) // _stride(gaussians) + 1) * _SECTORS
    shown = torch.zeros(places, numbers, dtype=torch.bool)  # from which place
    times = torch.zeros(numbers, dtype=torch.long)
    gains = torch.tensor([*_GAINS, 0.0])
    chosen: list[PosedCamera] = []
    least = 0.0
    while left and len(chosen) < count:
        value = gains[times.clamp(max=len(_GAINS))]
        found = [(value[one.shown] * ~shown[one.place, one.shown] * one.worth).sum().item() for one in left]
        best = max(range(len(left)), key=found.__getitem__)
        if found[best] <= least:
            break
        least = max(least, _LEAST_GAIN * found[best])
        one = left.pop(best)
        times[one.shown] += ~shown[one.place, one.shown]
        shown[one.place, one.shown] = True
        chosen.append(one.view)
    return chosen


@dataclass(frozen=True)
class _Seen:
    """What a view shows of surfaces."""

    index: Tensor  # [K] the Gaussians on them, of a large splat every n-th one
    sizes: Tensor  # [K] of each, standard deviations in pixels
    depth: Tensor  # [h, w] z of the surface, 0 without one
    score: float  # share of the cells with a Gaussian, less where light passes through: photographs show none


def _surface_seen(gaussians: Gaussians, view: PosedCamera) -> _Seen:
    """What a view shows of surfaces.

    Fog and Gaussians far larger than a pixel, as in front of and behind what was photographed, have a depth,
    but few centres at it.
    """
    camera = view.camera
    result = render(gaussians, camera, view.cam_from_world, RenderOptions())
    depth = result.depth * (result.alpha > _OPAQUE)
    index = (result.radii > 0).nonzero()[:, 0]
    pose = view.cam_from_world.to(gaussians.means)
    local = gaussians.means[index] @ pose[:3, :3].T + pose[:3, 3]
    pixels = camera.project(local).floor().long()
    inside = ((pixels >= 0) & (pixels < torch.tensor([camera.width, camera.height]).to(pixels))).all(1)
    index, z, pixels = index[inside], local[inside, 2], pixels[inside]
    there = depth[pixels[:, 1], pixels[:, 0]]
    near = (z - there).abs() < _ON_SURFACE * there
    index, z, pixels = index[near], z[near], pixels[near]
    columns, rows = -(-camera.width // _CELL), -(-camera.height // _CELL)
    cells = pixels[:, 1] // _CELL * columns + pixels[:, 0] // _CELL
    score = len(cells.unique()) / (columns * rows) * (depth > 0).float().mean().item() ** _GAPS
    counted = index % _stride(gaussians) == 0
    index, z = index[counted], z[counted]
    sizes = gaussians.log_scales[index].median(1).values.exp() * camera.fx / z
    return _Seen(index.cpu(), sizes.cpu(), depth.cpu(), score)
