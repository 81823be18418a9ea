"""Localization as a whole: a map and an image in, a pose out, in stages that each return an estimate."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from gaussian_renderer.device import rendering_device
from localization.distortion import undistort_image, undistort_pixels
from localization.features import Features, Keypoints, XFeatExtractor
from localization.guided import GuidedOptions, guided_pairs, refine
from localization.landmarks import FILE_NAME, Landmarks, load_landmarks
from localization.matching import Pairs, mutual_nearest
from localization.pnp import PnPOptions, estimate_pose, pixel_scale
from localization.queries import centered_camera
from localization.refine import Query, Refiner
from localization.refine.fine import FineOptions, FineRefiner
from localization.refine.lm import LmOptions, LmRefiner
from localization.refine.rendering import shrunk
from localization.refine.warp import WarpOptions, WarpRefiner
from localization.result import Localization, Matches, PoseEstimate
from localization.retrieval import divide
from scene.cameras import Camera
from scene.export import load_gaussians, ply_path, saved_iterations
from scene.gaussians import Gaussians
from scene.images import resize_rgb
from scene.map_config import longest_side
from utils.errors import GSplatLocError

PRIOR = "prior"
_LARGE = 2  # shortlists that a map must exceed: a vote costs a sixteenth of what comparing all does
STAGES = (PRIOR, "fine", "warp", "lm")
DEFAULT_STAGES = (PRIOR, "lm")  # as accurate as `fine` in a third of its time: localization/refine/lm.py


@dataclass(frozen=True)
class LocalizerOptions:
    """Which stages run, and how."""

    stages: tuple[str, ...] = DEFAULT_STAGES  # in this order; the first is always "prior"
    top_k: int = 2048  # keypoints per query image
    first_k: int = 1024  # the strongest of them, which are compared with every landmark shortlisted
    sure: float = (
        0.25  # share of their matches that must agree on a pose: otherwise all keypoints are compared
    )
    shortlist: int = 16_384  # landmarks that keypoints are compared with; larger maps are voted on first
    max_side: int | None = None  # pixels: larger images are looked at in this size; None = the map's own
    min_similarity: float = 0.7  # cosine between a keypoint and its landmark
    pnp: PnPOptions = field(default_factory=PnPOptions)
    guided: GuidedOptions = field(default_factory=GuidedOptions)
    fine: FineOptions = field(default_factory=FineOptions)
    warp: WarpOptions = field(default_factory=WarpOptions)
    lm: LmOptions = field(default_factory=LmOptions)
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
    ):
        """`gaussians` may be None without refiners. Raises `GSplatLocError` if the parts do not fit."""
        if landmarks.extractor != extractor.version:
            raise GSplatLocError(
                f"expected landmarks of {extractor.version}, found {landmarks.extractor}: map the scene again"
            )
        if refiners and gaussians is None:
            raise GSplatLocError(
                "expected Gaussians for the refinements, found none: run only the prior stage"
            )
        self.landmarks = landmarks
        self.extractor = extractor
        self.gaussians = gaussians
        self.refiners = tuple(refiners)
        self.options = options or LocalizerOptions()
        large = len(landmarks) > _LARGE * self.options.shortlist
        self._places = divide(landmarks) if large else None

    @classmethod
    def load(
        cls, map_dir: Path | str, options: LocalizerOptions | None = None, iteration: int | None = None
    ) -> "Localizer":
        """The localizer of a map that train.py wrote; Gaussians are read only where a stage needs them."""
        options = options or LocalizerOptions()
        options = replace(options, max_side=options.max_side or longest_side(map_dir))
        device = rendering_device(options.device, quiet=options.quiet)
        refiners = make_refiners(options)
        landmarks = load_landmarks(Path(map_dir) / FILE_NAME).to(device)
        gaussians = load_gaussians(map_dir, iteration).to(device) if refiners else None
        extractor = XFeatExtractor(device, options.top_k)
        return cls(landmarks, extractor, gaussians, refiners, options)

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
        estimate = self.prior(features, guess, focal_known=camera is not None)
        stages = {PRIOR: estimate}
        if estimate.ok and self.refiners and estimate.distortion != 0:
            start = time.perf_counter()
            image = undistort_image(image, estimate.camera, estimate.distortion)
            features = self.extractor.extract(image)
            features_ms += 1000 * (time.perf_counter() - start)
        if estimate.ok and self.gaussians is not None:
            query = Query(image, estimate.camera, features.keypoints, features.dense)
            for refiner in self.refiners:
                estimate = refiner.refine(query, self.gaussians, estimate)
                stages[refiner.name] = estimate
        stages = {name: stage.resized(width, height) for name, stage in stages.items()}
        return Localization(stages, features_ms)

    def prior(self, features: Features, camera: Camera, focal_known: bool = True) -> PoseEstimate:
        """The pose from matches between keypoints and landmarks."""
        start = time.perf_counter()
        keypoints, landmarks = features.keypoints, self._shortlist(features.keypoints)
        estimate = self._look(keypoints, landmarks, camera, focal_known)
        if estimate.ok and self.options.guided.radius_px > 0:
            estimate = self._look_again(estimate, keypoints, landmarks, focal_known)
        return replace(estimate, elapsed_ms=1000 * (time.perf_counter() - start))

    def _look(
        self, keypoints: Keypoints, landmarks: Landmarks, camera: Camera, focal_known: bool
    ) -> PoseEstimate:
        """The pose from the strongest keypoints, or from all where these hardly agree.

        In a view unlike those mapped, a wrong pose once gathered more of the strongest than the right one.
        """
        for count in (self.options.first_k, len(keypoints)):
            some = keypoints.select(slice(0, count))
            pairs = mutual_nearest(some.descriptors, landmarks.descriptors, self.options.min_similarity)
            matches = _matches(keypoints, landmarks, pairs)
            estimate = estimate_pose(matches.pixels, matches.points, camera, self.options.pnp, focal_known)
            sure = estimate.ok and estimate.inliers >= self.options.sure * len(matches)
            if sure or count >= len(keypoints):
                break
        return estimate

    def _shortlist(self, keypoints: Keypoints) -> Landmarks:
        """The landmarks that these keypoints may be of: all of them, unless the map is large."""
        if self._places is None or not len(keypoints):
            return self.landmarks
        return self.landmarks.select(self._places.shortlist(keypoints.descriptors, self.options.shortlist))

    def _look_again(
        self, first: PoseEstimate, keypoints: Keypoints, landmarks: Landmarks, focal_known: bool
    ) -> PoseEstimate:
        """`first` with all keypoints, matched where its landmarks must appear; itself if they are fewer."""
        guided, pnp, scale = self.options.guided, self.options.pnp, pixel_scale(first.camera)
        radius = guided.radius_px * scale
        seen = keypoints
        if first.distortion != 0:
            xy = undistort_pixels(keypoints.xy.cpu().numpy(), first.camera, first.distortion)
            seen = replace(keypoints, xy=torch.from_numpy(xy).to(keypoints.xy))
        pairs = guided_pairs(first, seen, landmarks, radius, guided.min_similarity)
        if len(pairs) < first.inliers:
            return first
        matches = _matches(keypoints, landmarks, pairs)
        if focal_known:
            return refine(first, matches, pnp.max_error_px * scale)
        second = estimate_pose(matches.pixels, matches.points, first.camera, pnp, focal_known)
        return second if second.ok else first


def _matches(keypoints: Keypoints, landmarks: Landmarks, pairs: Pairs) -> Matches:
    pixels = keypoints.xy[pairs.index_a].double().cpu().numpy()
    points = landmarks.positions[pairs.index_b].double().cpu().numpy()
    return Matches(pixels, points, np.zeros(len(pixels), bool))


def make_refiners(options: LocalizerOptions) -> list[Refiner]:
    """The refinements among `options.stages`, in order."""
    unknown = [stage for stage in options.stages if stage not in STAGES]
    repeated = len(set(options.stages)) < len(options.stages)
    if unknown or repeated or not options.stages or options.stages[0] != PRIOR:
        raise GSplatLocError(
            f"expected stages that start with {PRIOR}, out of {', '.join(STAGES)}, each once,"
            f" found {', '.join(options.stages) or 'none'}: see --stages"
        )
    makers: dict[str, Callable[[], Refiner]] = {
        "fine": lambda: FineRefiner(options.fine),
        "warp": lambda: WarpRefiner(options.warp),
        "lm": lambda: LmRefiner(options.lm),
    }
    return [makers[stage]() for stage in options.stages[1:]]


def map_bytes(map_dir: Path | str, options: LocalizerOptions, iteration: int | None = None) -> int:
    """Size of the files that `Localizer.load` reads with these options."""
    map_dir = Path(map_dir)
    files = [map_dir / FILE_NAME]
    if len(options.stages) > 1:
        folder = ply_path(map_dir, saved_iterations(map_dir)[-1] if iteration is None else iteration).parent
        files += [path for path in folder.iterdir() if path.is_file()]
    return sum(path.stat().st_size for path in files)
