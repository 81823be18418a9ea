"""The localizer: the pose of an image in a map, by an initial pose and refinements in a row."""

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import PIL.Image
from torch import Tensor

from gsplatloc.gaussian_renderer.device import rendering_device
from gsplatloc.localization import fallback as cascade
from gsplatloc.localization.alignment.rendered_view import shrunk
from gsplatloc.localization.fallback import FALLBACK, Fallback, make_fallback, undistorted
from gsplatloc.localization.features import DEFAULT_EXTRACTOR, Extractor, make_extractor
from gsplatloc.localization.initial import INITIAL_POSES, InitialPose
from gsplatloc.localization.initial.replaced_camera import hypotheses_of
from gsplatloc.localization.landmarks.file import FILE_NAME as LANDMARKS
from gsplatloc.localization.landmarks.noise import MapNoise
from gsplatloc.localization.options import INITIAL, LocalizerOptions
from gsplatloc.localization.quarter_turns import turn_estimate, turn_image, turn_known
from gsplatloc.localization.queries import (
    CameraPrior,
    Query,
    as_rgb,
    camera_of_file,
    centered_camera,
    check_camera,
    check_pose,
)
from gsplatloc.localization.refine import REFINERS, Refiner, StageContext
from gsplatloc.localization.result import Localization, PoseEstimate, Status
from gsplatloc.localization.verification import MIN_SCORE, verification_score
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.images import resize_rgb
from gsplatloc.scene.map_config import longest_side, map_extractor, typical_focal
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.scene.tiled_map import is_tiled
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.io import expanded
from gsplatloc.utils.process import after_fork
from gsplatloc.utils.registry import check_settings

_MAX_COARSER = 2.0  # times shorter a known focal length may be than that of the mapping images
_SAME_FOCAL = 0.08  # logarithm: EXIF data of the map's camera differs by no more
_SAME_SHAPE = 0.005  # relative difference of the height-to-width ratio of images of one camera
_CLEARLY = 1.5  # times better a quarter turn must match the map to be tried; right ones do 2.6 times (median)
_CERTAIN = 1.0  # support of a turn that is searched without a pose; wrong ones have less in hard images
_FEW = 1024  # keypoints, the strongest, that must find a pose in a turn that hardly matches the map
_QUARTERS = (1, 2, 3)  # counterclockwise, by which an image without a verified pose is turned


class Localizer:
    """Localizes images in a map.

    An initial pose, for example from matches with landmarks, is refined by each refiner in turn. Every stage
    returns a `PoseEstimate`; a refinement that is rejected returns the estimate that it was given.

    >>> localizer = Localizer.load("output/kitchen")
    >>> found = localizer.localize("photo.jpg")  # or an array, and its camera
    >>> found.status, found.final.center, found.final.expected_translation_m
    >>> found.stages["initial"].inliers

    Threads may share a localizer: a query changes no state that another one reads, and draws its random
    numbers from generators of its own, so that its result depends neither on other threads nor on the queries
    before. Processes may be spawned or, on a CPU, forked; a forked one computes on a single thread.
    """

    def __init__(
        self,
        initial: InitialPose,
        extractor: Extractor,
        splat_map: SplatMap | None = None,
        refiners: Sequence[Refiner] = (),
        max_side: int | None = None,
        verify: bool = False,
        fallback: Fallback | None = None,
        noise: MapNoise | None = None,
        focal: float | None = None,
    ):
        """From parts, as `load` makes them.

        Images larger than `max_side` pixels are shrunk to it. Images with less than half of the mapping
        images' focal length `focal`, in pixels, are enlarged to it.
        With `verify`, a pose that no refinement has verified is compared with the map rendered there; with
        `fallback`, a query without a verified pose is searched for further. Covariances include `noise`,
        the errors of the map.
        """
        self.initial, self.extractor, self.refiners = initial, extractor, tuple(refiners)
        self.splat_map = splat_map or SplatMap()
        self.max_side, self.focal, self.noise = max_side, focal, noise or MapNoise()
        self.verify, self.fallback = verify or fallback is not None, fallback

    def __repr__(self) -> str:
        stages = ", ".join([INITIAL, *(refiner.name for refiner in self.refiners)])
        return f"{type(self).__name__}({self.splat_map.folder}, stages {stages}, {self.extractor.version})"

    @classmethod
    def load(
        cls,
        map_dir: Path | str,
        options: LocalizerOptions | None = None,
        iteration: int | None = None,
        extractor: Extractor | None = None,
    ) -> "Localizer":
        """The localizer of a map that `gsplatloc train` wrote, by default in its latest `iteration`.

        Only those parts of the map are read that the chosen stages need. Localizers may share the `extractor`
        of their maps. Raises `GSplatLocError` for unknown stages, settings of no method, and where the map
        lacks what the stages need.
        """
        options, map_dir = options or LocalizerOptions(), expanded(map_dir)
        if is_tiled(map_dir):
            raise GSplatLocError(
                f"expected one map in {map_dir}, found one in tiles: load it with gsplatloc.TiledLocalizer"
            )
        names = options.refinements()
        check_settings(options.settings, INITIAL_POSES, REFINERS)
        device = rendering_device(options.device, quiet=options.quiet)
        after_fork(device)
        splat_map = SplatMap(map_dir, iteration, device)
        name = map_extractor(map_dir) or DEFAULT_EXTRACTOR
        extractor = extractor or make_extractor(name, device, options.top_k)
        context = StageContext(splat_map, extractor)
        settings = options.settings
        initial = INITIAL_POSES.make(options.initial, settings, context)
        refiners = [REFINERS.make(name, settings, context) for name in names]
        if refiners:
            _ = splat_map.gaussians  # read now: an unreadable map is an error before the first query
        fallback = make_fallback(context, settings, initial) if refiners and options.fallback else None
        max_side = options.max_side or longest_side(map_dir)
        noise = MapNoise.load(map_dir / LANDMARKS)
        focal = typical_focal(map_dir)
        return cls(initial, extractor, splat_map, refiners, max_side, bool(refiners), fallback, noise, focal)

    def localize(
        self,
        image: np.ndarray | PIL.Image.Image | Path | str,
        camera: Camera | CameraPrior | None = None,
        cam_from_world: Tensor | None = None,
    ) -> Localization:
        """The pose of an image, which is undistorted where `camera` is given.

        The image is a path, an image of Pillow, or an array [H, W, 3] RGB or [H, W] grey, of uint8, uint16 or
        floats from 0 to 1. Of a file without `camera`, the focal length is that of its EXIF data, if any.

        A camera that is only probable is a `CameraPrior`; without a camera, that of mapping views of the same
        shape is probable, if there are any. Of such images the focal length and, where matches show them,
        radial distortion and the principal point are estimated.
        `cam_from_world` [4, 4] is the pose of another estimator, for the initial pose "given".

        Refinements are skipped if the initial pose fails: its status is the reason. Of several hypotheses the
        first is returned of which a stage is accepted. With a fallback, an image without a verified pose is
        also tried in the quarter turn in which its keypoints match the map better, if there is one. An image
        larger than `max_side` is shrunk to the scale of the map's descriptors; estimates are for the image
        as given. Poses are in the world coordinates of the scene, in double precision.

        Raises `GSplatLocError` for an image or a pose of another shape or type, and for an image of another
        size than its camera.
        """
        if isinstance(image, str | Path) and camera is None:
            camera = camera_of_file(Path(image))
        image = as_rgb(image)
        check_camera(camera)
        check_pose(cam_from_world)
        after_fork(self.splat_map.device)
        if cam_from_world is not None:
            cam_from_world = self.splat_map.frame.pose_in_map(cam_from_world)
        query, features_ms = self.query(image, camera, cam_from_world)
        (result, prepared), quarters = self._attempt(query, features_ms), 0
        if self.fallback is not None and self.verify and not result.verified:
            result, query, prepared, quarters = self._turned(image, camera, query, result, prepared)
            if result.camera_replaced:
                query = query.with_free_camera()
            if not result.verified:
                result = self._searched(self.fallback, query, prepared, result)
        stages = {name: turn_estimate(stage, -quarters) for name, stage in result.stages.items()}
        probable = result.camera_replaced or (not query.focal_known and query.focal_sigma > 0)
        stages = {name: self._stated(probable, image, stage) for name, stage in stages.items()}
        return replace(result, stages=stages)

    def _stated(self, probable: bool, image: np.ndarray, estimate: PoseEstimate) -> PoseEstimate:
        """The estimate for the image as given, in the world, with the errors of the map in its covariance.

        It has no covariance if the camera of the query is only probable and its error was not estimated.
        """
        covariance = estimate.covariance
        if probable and estimate.camera_covariance is None:
            covariance = None
        if covariance is not None:
            covariance = self.noise.added(covariance, estimate.pose(), estimate.camera)
        estimate = replace(estimate, covariance=covariance).resized(image.shape[1], image.shape[0])
        return estimate.in_world(self.splat_map.frame)

    def _turned(
        self,
        image: np.ndarray,
        camera: Camera | CameraPrior | None,
        query: Query,
        upright: Localization,
        prepared: Query,
    ) -> tuple[Localization, Query, Query, int]:
        """The attempt in the turn that matches the map best, its query, the prepared one, and its quarters.

        They are those of `upright` if no quarter turn matches the map clearly better, or if the turn has no
        pose, or one that looks less like the map. If neither has a pose, the turn is searched only if it
        matches the map: 13 of 21 upright images that failed matched 1.5 times better turned.
        Images of little texture hardly match in any turn. Without a pose, every turn of these is tried, the
        best first, with all keypoints if the strongest find a pose; only a verified pose counts.
        """
        support = None if self.fallback is None else self.fallback.support
        if support is None:
            return upright, query, prepared, 0
        start, as_given = time.perf_counter(), support(query.keypoints)
        turns = []
        for quarters in _QUARTERS:
            turned_camera = None if camera is None else turn_known(camera, quarters)
            turned, _ = self.query(turn_image(image, quarters), turned_camera)
            turns.append((support(turned.keypoints), quarters, turned))
        turns.sort(key=lambda turn: turn[0], reverse=True)
        matched = upright.final.ok or max(turns[0][0], as_given) >= _CERTAIN
        if matched:
            turns = turns[:1] if turns[0][0] > _CLEARLY * as_given else []
        features_ms, search_ms = 1000 * (time.perf_counter() - start), upright.total_ms
        for found, quarters, turned in turns:
            if not matched:
                start = time.perf_counter()
                few = replace(turned, keypoints=turned.keypoints.select(slice(0, _FEW)))
                likely = any(hypothesis.ok for hypothesis in self.initial.hypotheses(few))
                search_ms += 1000 * (time.perf_counter() - start)
                if not likely:
                    continue
            attempt, turned_prepared = self._attempt(turned, features_ms)
            less = not attempt.verified and (attempt.score or -1.0) < (upright.score or -1.0)
            counts = attempt.verified
            if matched:
                counts = (attempt.final.ok and not less) or (not upright.final.ok and found >= _CERTAIN)
            if counts:
                return (
                    replace(attempt, search_ms=attempt.search_ms + search_ms),
                    turned,
                    turned_prepared,
                    quarters,
                )
            search_ms, features_ms = search_ms + attempt.total_ms, 0.0
        spent = search_ms + features_ms - upright.total_ms
        return replace(upright, search_ms=upright.search_ms + spent), query, prepared, 0

    def _searched(
        self, fallback: Fallback, query: Query, prepared: Query, found: Localization
    ) -> Localization:
        """The result with one more stage: the best estimate of the fallback."""
        start = time.perf_counter()
        best, score = fallback.search(query, prepared, found.final, found.score)
        wide = None if best.covariance is None else cascade.INFLATION**2 * best.covariance
        stage = replace(best, covariance=wide, elapsed_ms=1000 * (time.perf_counter() - start))
        verified = score is not None and score >= MIN_SCORE
        return replace(found, stages={**found.stages, FALLBACK: stage}, verified=verified, score=score)

    def _attempt(self, query: Query, features_ms: float) -> tuple[Localization, Query]:
        """Hypotheses, refinements and verification of a query as it is, and the query that was refined."""
        begin = time.perf_counter()
        stages: dict[str, PoseEstimate] = {}
        query, hypotheses, replaced = hypotheses_of(self.initial, query)
        prepared, camera_ms = query, 0.0
        for hypothesis in hypotheses:
            if not stages:  # the time in which another camera was tried
                camera_ms = max(0.0, 1000 * (time.perf_counter() - begin) - hypothesis.elapsed_ms)
            tried_ms = 1000 * (time.perf_counter() - begin) if stages else hypothesis.elapsed_ms
            candidate = replace(hypothesis, elapsed_ms=tried_ms)
            prepared, extraction_ms = self._undistorted(query, candidate)
            features_ms += extraction_ms
            found = self._refined(prepared, candidate)
            if not self.refiners or any(estimate.accepted for estimate in found.values()):
                stages = found
                break
            stages = stages or _rejected(found)
        if not stages:
            raise GSplatLocError(
                f"expected at least one hypothesis of the initial pose {self.initial.name}, found none"
            )
        result = Localization(stages, features_ms, search_ms=camera_ms, camera_replaced=replaced)
        return self._verified(prepared, result), prepared

    def _verified(self, query: Query, found: Localization) -> Localization:
        """The result with its verification.

        A pose that was accepted by a refiner that compares the query with the map is verified without a
        score. A pose that was not refined is verified only where there is no fallback to refine it.
        """
        final = found.final
        last = self.refiners[-1] if self.refiners and len(found.stages) > 1 else None
        if not self.verify or not final.ok or (final.accepted and getattr(last, "verifies", False)):
            return replace(found, verified=final.ok)
        start = time.perf_counter()
        score = verification_score(query, self.splat_map, final.pose())
        verified = score >= MIN_SCORE and (final.accepted or self.fallback is None)
        search_ms = found.search_ms + 1000 * (time.perf_counter() - start)
        return replace(found, verified=verified, score=score, search_ms=search_ms)

    def query(
        self, image: np.ndarray, known: Camera | CameraPrior | None, cam_from_world: Tensor | None = None
    ) -> tuple[Query, float]:
        """The query with its features, and the milliseconds of their extraction."""
        height, width = image.shape[:2]
        known = known if isinstance(known, Camera) else self.probable_camera(width, height, known)
        camera, sigma = (
            (known.camera, known.focal_sigma) if isinstance(known, CameraPrior) else (known, math.inf)
        )
        if camera is not None and (camera.width, camera.height) != (width, height):
            raise GSplatLocError(
                f"expected an image of its camera's {camera.width}x{camera.height}, found {width}x{height}:"
                " pass the camera of this image"
            )
        start = time.perf_counter()
        guess = camera or centered_camera(width, height, float(max(width, height)))
        guess = self._in_map_scale(guess, camera is not None)
        image = resize_rgb(image, guess.width, guess.height)
        features = self.extractor.extract(image)
        exact = isinstance(known, Camera)
        query = Query(
            image, guess, features.keypoints, features.dense, exact, sigma, cam_from_world, max(width, height)
        )
        return query, 1000 * (time.perf_counter() - start)

    def _in_map_scale(self, camera: Camera, focal_known: bool) -> Camera:
        """The camera over an image whose details are about as large as in the mapping images.

        Images larger than those are shrunk. Images of a much shorter known focal length in pixels, such as
        thumbnails, are enlarged: descriptors match over a factor of about two in scale.
        """
        if self.max_side is None:
            return camera
        camera = shrunk(camera, self.max_side)
        if not (focal_known and self.focal and self.focal > _MAX_COARSER * camera.fx):
            return camera
        factor = min(self.focal / camera.fx, self.max_side / max(camera.width, camera.height))
        return camera.resized(round(factor * camera.width), round(factor * camera.height))

    def probable_camera(self, width: int, height: int, exif: CameraPrior | None) -> CameraPrior | None:
        """The camera of mapping views of this shape; `exif` where there is none of that focal length."""
        shape = height / width
        for camera, _ in self._map_cameras.most_common():
            if abs(camera.height / camera.width / shape - 1) < _SAME_SHAPE:
                camera = camera.resized(width, height)
                if exif is None or abs(math.log(camera.fx / exif.camera.fx)) < _SAME_FOCAL:
                    return CameraPrior(camera, 0.0)
        return exif

    @cached_property
    def _map_cameras(self) -> Counter[Camera]:
        """The cameras of the mapping views, with the number of views."""
        return Counter(view.camera for view in (self.splat_map.views if self.splat_map.has_views() else []))

    def _undistorted(self, query: Query, estimate: PoseEstimate) -> tuple[Query, float]:
        """The query with the estimate's camera, undistorted; and the milliseconds of the extraction."""
        if not estimate.ok or not self.refiners or estimate.distortion == 0:
            return replace(query, camera=estimate.camera), 0.0
        start = time.perf_counter()
        query = undistorted(query, estimate, self.extractor)
        return query, 1000 * (time.perf_counter() - start)

    def _refined(self, query: Query, estimate: PoseEstimate) -> dict[str, PoseEstimate]:
        """The estimates of all stages, the initial one first; only that one if it failed."""
        stages = {INITIAL: estimate}
        if estimate.ok:
            for refiner in self.refiners:
                refined = refiner.refine(query, self.splat_map, estimate)
                if not refined.accepted and self.verify and getattr(refiner, "verifies", False):
                    wide = self.noise.widened(estimate)
                    if wide is not estimate:
                        refined = cascade.refined_again(refiner, query, self.splat_map, wide, refined)
                estimate = stages[refiner.name] = refined
        return stages


def _rejected(stages: dict[str, PoseEstimate]) -> dict[str, PoseEstimate]:
    """The stages of a hypothesis that no refinement accepted: the refinements are failures."""
    failure = PoseEstimate(Status.NO_CONSENSUS, stages[INITIAL].camera, accepted=False)
    failed = {name: replace(failure, elapsed_ms=stage.elapsed_ms) for name, stage in stages.items()}
    return failed | {INITIAL: stages[INITIAL]}


def map_bytes(localizer: Localizer) -> int:
    """Size of the files of the map that the localizer's stages have read."""
    return localizer.splat_map.bytes_read()
