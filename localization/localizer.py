"""Localization as a whole: a map and an image in, a pose out, in stages that each return an estimate."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gsplatloc.gaussian_renderer.device import rendering_device
from gsplatloc.localization.alignment.exposure import FILE_NAME as EXPOSURE_NAME
from gsplatloc.localization.alignment.exposure import load_exposure
from gsplatloc.localization.alignment.rendered_view import shrunk
from gsplatloc.localization.features.xfeat import Features, Keypoints, XFeatExtractor
from gsplatloc.localization.initial.retrieval import RetrievalStart, RetrievalStartOptions, StartProvider
from gsplatloc.localization.initial.view_index import FILE_NAME as VIEWS_NAME
from gsplatloc.localization.initial.view_index import ViewRetrievalOptions, cached_index
from gsplatloc.localization.landmarks.clusters import divide
from gsplatloc.localization.landmarks.file import FILE_NAME, Landmarks, load_landmarks
from gsplatloc.localization.landmarks.guided import GuidedOptions, guided_pairs, refine
from gsplatloc.localization.matching.nearest import Pairs, mutual_nearest
from gsplatloc.localization.pose.distortion import undistort_image, undistort_pixels
from gsplatloc.localization.pose.pnp import PnPOptions, estimate_pose, pixel_scale
from gsplatloc.localization.queries import centered_camera
from gsplatloc.localization.refine import Query, Refiner
from gsplatloc.localization.refine.fine import FineOptions, FineRefiner
from gsplatloc.localization.refine.gscpr import GscprOptions, GscprRefiner
from gsplatloc.localization.refine.gsloc import GslocOptions, GslocRefiner
from gsplatloc.localization.refine.lm import LmOptions, LmRefiner
from gsplatloc.localization.refine.warp import WarpOptions, WarpRefiner
from gsplatloc.localization.result import Localization, Matches, PoseEstimate, Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.export import load_gaussians, ply_path, saved_iterations
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.images import resize_rgb
from gsplatloc.scene.map_config import longest_side, read_cameras
from gsplatloc.utils.errors import GSplatLocError

INITIAL = "initial"
_LARGE = 2  # shortlists that a map must exceed for a vote
STAGES = (INITIAL, "fine", "warp", "lm", "gsloc", "gscpr")
STARTS = (INITIAL, "retrieval")
DEFAULT_STAGES = (INITIAL, "lm")  # as accurate as `fine` in a third of its time: localization/refine/lm.py


@dataclass(frozen=True)
class LocalizerOptions:
    """Which stages run, and how."""

    stages: tuple[str, ...] = DEFAULT_STAGES  # in this order; the first is always "prior"
    top_k: int = 2048  # keypoints per query image
    first_k: int = 512  # the strongest of them, which are compared first
    first_shortlist: int = 8_192  # landmarks that they are compared with; larger maps are voted on
    sure: float = 0.5  # share of their matches that must agree on a pose; else all keypoints are compared ...
    shortlist: int = 16_384  # ... with so many landmarks, and with all of a map less than twice that large
    max_side: int | None = None  # pixels: larger images are looked at in this size; None = the map's own
    min_similarity: float = 0.7  # cosine between a keypoint and its landmark
    pnp: PnPOptions = field(default_factory=PnPOptions)
    guided: GuidedOptions = field(default_factory=GuidedOptions)
    fine: FineOptions = field(default_factory=FineOptions)
    warp: WarpOptions = field(default_factory=WarpOptions)
    lm: LmOptions = field(default_factory=LmOptions)
    gsloc: GslocOptions = field(default_factory=GslocOptions)
    gscpr: GscprOptions = field(default_factory=GscprOptions)
    start: str = INITIAL  # what "prior" is: matches with landmarks, or "retrieval" of views of the map
    views: ViewRetrievalOptions = field(default_factory=ViewRetrievalOptions)  # that are retrieved
    retrieval: RetrievalStartOptions = field(default_factory=RetrievalStartOptions)  # how
    device: str = "auto"  # of network and map: auto (a GPU where one can be used), cpu, cuda or cuda:N
    quiet: bool = True  # do not say what `auto` came to


class Localizer:
    """Finds the camera of an image in a map.

    >>> localizer = Localizer.load("output/kitchen")
    >>> localizer.localize(image, camera).final.cam_from_world
    """

    def __init__(
        self,
        landmarks: Landmarks,
        extractor: XFeatExtractor,
        gaussians: Gaussians | None = None,
        refiners: Sequence[Refiner] = (),
        options: LocalizerOptions | None = None,
        start: StartProvider | None = None,
    ):
        """`gaussians` may be None without refiners and without `start`, which stands in for the prior.

        Raises `GSplatLocError` if the parts do not fit.
        """
        if landmarks.extractor != extractor.version:
            raise GSplatLocError(
                f"expected landmarks of {extractor.version}, found {landmarks.extractor}: map the scene again"
            )
        if (refiners or start is not None) and gaussians is None:
            raise GSplatLocError(
                "expected Gaussians for the refinements, found none: run only the prior stage"
            )
        self.landmarks = landmarks
        self.extractor = extractor
        self.gaussians = gaussians
        self.refiners = tuple(refiners)
        self.options = options or LocalizerOptions()
        self.start = start
        self._places = divide(landmarks) if _too_large(landmarks, self.options.first_shortlist) else None

    @classmethod
    def load(
        cls, map_dir: Path | str, options: LocalizerOptions | None = None, iteration: int | None = None
    ) -> "Localizer":
        """The localizer of a map that train.py wrote; Gaussians are read only where a stage needs them."""
        options = options or LocalizerOptions()
        options = replace(options, max_side=options.max_side or longest_side(map_dir))
        device = rendering_device(options.device, quiet=options.quiet)
        refiners, retrieves = make_refiners(options, map_dir), _starts_by_retrieval(options)
        landmarks = load_landmarks(Path(map_dir) / FILE_NAME).to(device)
        gaussians = load_gaussians(map_dir, iteration).to(device) if refiners or retrieves else None
        extractor = XFeatExtractor(device, options.top_k)
        start = None
        if retrieves and gaussians is not None:
            index = cached_index(map_dir, gaussians, read_cameras(map_dir), extractor, options.views)
            start = RetrievalStart(index, options.retrieval)
        return cls(landmarks, extractor, gaussians, refiners, options, start)

    def localize(self, image: np.ndarray, camera: Camera | None = None) -> Localization:
        """The pose of an undistorted image [H, W, 3] uint8 RGB.

        Without a camera the image may be distorted radially: that and the focal length are estimated, the
        principal point is the centre. Refinements are skipped when the prior fails: its status says why. An
        image larger than `max_side` is shrunk to meet descriptors made at that scale; estimates are for the
        image as given.
        """
        height, width = image.shape[:2]
        if camera is not None and (camera.width, camera.height) != (width, height):
            raise GSplatLocError(
                f"expected an image of its camera's {camera.width}x{camera.height}, found {width}x{height}"
            )
        start = time.perf_counter()
        guess = camera or centered_camera(width, height, float(max(width, height)))
        guess = guess if self.options.max_side is None else shrunk(guess, self.options.max_side)
        image = resize_rgb(image, guess.width, guess.height)
        features = self.extractor.extract(image)
        features_ms = 1000 * (time.perf_counter() - start)
        if self.start is not None:
            if camera is None:
                raise GSplatLocError(
                    "expected a known focal length to start from retrieved views, found none: give --focal"
                )
            stages = self._from_views(Query(image, guess, features.keypoints, features.dense), self.start)
            stages = {name: stage.resized(width, height) for name, stage in stages.items()}
            return Localization(stages, features_ms)
        estimate = self.initial(features, guess, focal_known=camera is not None)
        if estimate.ok and self.refiners and estimate.distortion != 0:
            start = time.perf_counter()
            image = undistort_image(image, estimate.camera, estimate.distortion)
            features = self.extractor.extract(image)
            features_ms += 1000 * (time.perf_counter() - start)
        query = Query(image, estimate.camera, features.keypoints, features.dense)
        stages = self._refined(query, estimate)
        stages = {name: stage.resized(width, height) for name, stage in stages.items()}
        return Localization(stages, features_ms)

    def _refined(self, query: Query, estimate: PoseEstimate) -> dict[str, PoseEstimate]:
        """The stages from an estimate on; only itself where it failed."""
        stages = {INITIAL: estimate}
        if estimate.ok and self.gaussians is not None:
            for refiner in self.refiners:
                estimate = refiner.refine(query, self.gaussians, estimate)
                stages[refiner.name] = estimate
        return stages

    def _from_views(self, query: Query, provider: StartProvider) -> dict[str, PoseEstimate]:
        """The stages from the first start that a refinement finds evidence for; without it they fail.

        A view that only looks alike is no pose. What was tried in vain counts as time of the start.
        """
        if self.gaussians is None:  # __init__ refuses it
            raise ValueError("views are retrieved without a map")
        begin = time.perf_counter()
        tried: list[dict[str, PoseEstimate]] = []
        for start in provider.starts(query, self.gaussians):
            elapsed_ms = 1000 * (time.perf_counter() - begin)
            tried.append(self._refined(query, replace(start, elapsed_ms=elapsed_ms)))
            found = list(tried[-1].values())[1:]
            if not found or any(estimate.accepted for estimate in found):
                return tried[-1]
        failed = {
            name: replace(
                stage, status=Status.NO_CONSENSUS, cam_from_world=None, covariance=None, information=None
            )
            for name, stage in tried[0].items()
            if name != INITIAL
        }
        return {INITIAL: tried[0][INITIAL], **failed}

    def initial(self, features: Features, camera: Camera, focal_known: bool = True) -> PoseEstimate:
        """The pose from matches between keypoints and landmarks."""
        start = time.perf_counter()
        estimate = self._look(features.keypoints, camera, focal_known)
        if estimate.ok and self.options.guided.radius_px > 0:
            estimate = self._look_again(estimate, features.keypoints, focal_known)
        return replace(estimate, elapsed_ms=1000 * (time.perf_counter() - start))

    def _look(self, keypoints: Keypoints, camera: Camera, focal_known: bool) -> PoseEstimate:
        """The pose from the strongest keypoints and the likeliest landmarks, or all where these hardly agree.

        In held-out views near those mapped six in ten of these matches agree, and more would change nothing;
        in views unlike them, where few agree, a wrong pose may gather more of so few than the right one.
        """
        options = self.options
        votes = self._places.votes(keypoints.descriptors) if self._places and len(keypoints) else None
        looks = ((options.first_k, options.first_shortlist), (len(keypoints), options.shortlist))
        for keypoint_count, landmark_count in looks:
            index = self._shortlist(votes, landmark_count)
            matches = self._matches(keypoints.select(slice(0, keypoint_count)), index)
            estimate = estimate_pose(matches.pixels, matches.points, camera, options.pnp, focal_known)
            sure = estimate.ok and estimate.inliers >= options.sure * len(matches)
            if sure or (isinstance(index, slice) and keypoint_count >= len(keypoints)):
                break
        return estimate

    def _shortlist(self, votes: Tensor | None, count: int) -> Tensor | slice:
        """Which landmarks may be in the image: about `count`, or all unless there are far more."""
        if self._places is None or votes is None or not _too_large(self.landmarks, count):
            return slice(None)
        return self._places.shortlist(votes, count)

    def _matches(self, keypoints: Keypoints, index: Tensor | slice) -> Matches:
        """Keypoints and landmarks at `index` that are each other's nearest."""
        descriptors, positions = self.landmarks.descriptors[index], self.landmarks.positions[index]
        pairs = mutual_nearest(keypoints.descriptors, descriptors, self.options.min_similarity)
        return _matches(keypoints, positions, pairs)

    def _look_again(self, first: PoseEstimate, keypoints: Keypoints, focal_known: bool) -> PoseEstimate:
        """`first` with all keypoints, matched where its landmarks must appear; itself if they are fewer."""
        guided, pnp, scale = self.options.guided, self.options.pnp, pixel_scale(first.camera)
        radius = guided.radius_px * scale
        seen = keypoints
        if first.distortion != 0:
            xy = undistort_pixels(keypoints.xy.cpu().numpy(), first.camera, first.distortion)
            seen = replace(keypoints, xy=torch.from_numpy(xy).to(keypoints.xy))
        pairs = guided_pairs(first, seen, self.landmarks, radius, guided.min_similarity)
        if len(pairs) < first.inliers:
            return first
        matches = _matches(keypoints, self.landmarks.positions, pairs)
        if focal_known:
            return refine(first, matches, pnp.max_error_px * scale)
        second = estimate_pose(matches.pixels, matches.points, first.camera, pnp, focal_known)
        return second if second.ok else first


def _matches(keypoints: Keypoints, positions: Tensor, pairs: Pairs) -> Matches:
    pixels = keypoints.xy[pairs.index_a].double().cpu().numpy()
    points = positions[pairs.index_b].double().cpu().numpy()
    return Matches(pixels, points, np.zeros(len(pixels), bool))


def _too_large(landmarks: Landmarks, count: int) -> bool:
    """Whether a vote is worth its price: a sixteenth to a quarter of what comparing all costs."""
    return len(landmarks) > _LARGE * count


def make_refiners(options: LocalizerOptions, map_dir: Path | str | None = None) -> list[Refiner]:
    """The refinements among `options.stages`, in order; some read more of the map than its Gaussians."""
    unknown = [stage for stage in options.stages if stage not in STAGES]
    repeated = len(set(options.stages)) < len(options.stages)
    if unknown or repeated or not options.stages or options.stages[0] != INITIAL:
        raise GSplatLocError(
            f"expected stages that start with {INITIAL}, out of {', '.join(STAGES)}, each once,"
            f" found {', '.join(options.stages) or 'none'}: see --stages"
        )
    makers: dict[str, Callable[[], Refiner]] = {
        "fine": lambda: FineRefiner(options.fine),
        "warp": lambda: WarpRefiner(options.warp),
        "lm": lambda: LmRefiner(options.lm),
        "gsloc": lambda: GslocRefiner(options.gsloc),
        "gscpr": lambda: _make_gscpr(options.gscpr, map_dir),
    }
    return [makers[stage]() for stage in options.stages[1:]]


def _make_gscpr(options: GscprOptions, map_dir: Path | str | None) -> GscprRefiner:
    learned = options.exposure == "act" and map_dir is not None
    return GscprRefiner(
        options, exposure=load_exposure(Path(map_dir or "") / EXPOSURE_NAME) if learned else None
    )


def _starts_by_retrieval(options: LocalizerOptions) -> bool:
    if options.start not in STARTS:
        raise GSplatLocError(
            f"expected a start among {', '.join(STARTS)}, found {options.start!r}: see --start"
        )
    return options.start != INITIAL


def map_bytes(map_dir: Path | str, options: LocalizerOptions, iteration: int | None = None) -> int:
    """Size of the files that `Localizer.load` reads with these options."""
    files = [Path(map_dir) / FILE_NAME]
    retrieves = _starts_by_retrieval(options)
    if retrieves:
        files.append(Path(map_dir) / VIEWS_NAME)
    splats = splats_bytes(map_dir, iteration) if len(options.stages) > 1 or retrieves else 0
    return splats + sum(path.stat().st_size for path in files)


def splats_bytes(map_dir: Path | str, iteration: int | None = None) -> int:
    """Size of the files of the Gaussians that are rendered, the latest by default."""
    folder = ply_path(map_dir, saved_iterations(map_dir)[-1] if iteration is None else iteration).parent
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
