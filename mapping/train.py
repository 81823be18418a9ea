"""From a scene to a map: features, tracks, initial Gaussians, training, descriptors, landmarks, files."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from gsplatloc.gaussian_renderer.device import rendering_device
from gsplatloc.localization.alignment.exposure import FILE_NAME as EXPOSURE_NAME
from gsplatloc.localization.alignment.exposure import save_exposure
from gsplatloc.localization.features import Extractor, make_extractor
from gsplatloc.localization.landmarks.file import FILE_NAME as LANDMARKS_NAME
from gsplatloc.localization.landmarks.file import Landmarks, save_landmarks
from gsplatloc.mapping import initialization
from gsplatloc.mapping.aggregation import aggregate_descriptors
from gsplatloc.mapping.depth_check import report_depth
from gsplatloc.mapping.distillation import distill_descriptors
from gsplatloc.mapping.evaluation import ImageQuality, quality_line
from gsplatloc.mapping.feature_cache import CachedKeypoints, FeatureCache
from gsplatloc.mapping.frames import FrameLoader, data_device
from gsplatloc.mapping.landmarks import build_landmarks, pose_noise
from gsplatloc.mapping.mask_check import check_masks
from gsplatloc.mapping.options import SPEEDUP_CHANNELS, MappingOptions
from gsplatloc.mapping.pose_check import contradiction, outliers
from gsplatloc.mapping.pose_refinement import refine_poses
from gsplatloc.mapping.trainer import Trainer, TrainingSet, Watcher
from gsplatloc.mapping.triangulation import Tracks, triangulate
from gsplatloc.scene.cameras import Scene, View
from gsplatloc.scene.checkpoint import load_checkpoint
from gsplatloc.scene.export import report_later_iterations, save_gaussians
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.map_config import MapConfig, write_cameras, write_config
from gsplatloc.scene.map_frame import MapFrame, local_origin, median_depth, usual_unit
from gsplatloc.utils.clock import Clock, in_stages
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError
from gsplatloc.utils.memory import trim_heap

_NO_LANDMARKS = (
    "the map has no landmarks, with which localization begins: hardly any keypoint matches in three images;"
    " take more images, with more overlap"
)


@dataclass(frozen=True)
class TrainingReport:
    """The result of a run: sizes, times and quality."""

    iteration: int
    completed: bool  # False when a signal ended it
    seconds: dict[str, float]  # by stage
    gaussians: int
    quality: ImageQuality | None  # on validation views, if there are any
    landmarks: int
    map_bytes: dict[str, int] = field(default_factory=dict)  # by file
    cache: Path | None = None  # folder of the features of the mapping images

    def lines(self) -> list[str]:
        """The summary, in lines of text."""
        sizes = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in self.map_bytes.items())
        lines = [f"time       {in_stages(self.seconds)}"]
        lines.append(f"map        {self.gaussians} Gaussians, {self.landmarks} landmarks ({sizes})")
        if self.quality is not None:
            lines.append(f"quality    {quality_line(self.quality)}")
        if self.cache is not None and self.cache.is_dir():
            size = sum(path.stat().st_size for path in self.cache.iterdir()) / 1e6
            lines.append(f"cache      {size:.0f} MB of features in {self.cache}, which may be deleted")
        return lines


class Mapper:
    """The steps of a run over one scene; tracks are computed when they are first needed."""

    def __init__(
        self,
        scene: Scene,
        output: Path,
        options: MappingOptions,
        extractor: Extractor,
        device: torch.device,
        white_background: bool = False,
        frame: MapFrame | None = None,
    ) -> None:
        """`frame`: the map's coordinates in those of the scene; unset = found from the views."""
        if not scene.train:
            raise GSplatLocError(f"expected training views in {scene.root}, found none: check --source_path")
        self.output, self.options, self.device = output, options, device
        self.quiet = options.output.quiet
        cache_dir = options.descriptors.cache_dir
        self.cache = FeatureCache(Path(cache_dir) if cache_dir else output / "cache" / "features", extractor)
        poses = torch.stack([view.cam_from_world for view in scene.train])
        self.frame = MapFrame(local_origin(poses)) if frame is None else frame
        self.scene = self.frame.scene_in_map(scene)
        self._white_background = white_background

    @cached_property
    def data(self) -> TrainingSet:
        """The views of the run, training and validation."""
        views, options = self.scene.train, self.options
        train, holdout = split_holdout(views, options.schedule.holdout)
        extent = initialization.scene_extent(views)
        cell = feature_cell(self.cache.extractor, views[0]) if options.feature_sized else None
        return TrainingSet(train, holdout, extent, self._white_background, cell, self.frame)

    def refine_poses(self) -> None:
        """Refine the poses of the scene if they are rough, or if that is asked for."""
        wanted = self.options.initialization.refine_poses
        if self.scene.rough_poses if wanted is None else wanted:
            keypoints = CachedKeypoints(self.cache, self.scene.train)
            views = refine_poses(self.scene.train, keypoints, self.device, self.quiet)
            self.scene = replace(self.scene, train=views)

    def choose_unit(self) -> None:
        """Give the map a unit of usual length; `frame`, the scene and its tracks change with it.

        Constants of length, such as the near plane, are for scenes in metres; a scene has no known unit
        before its depth is known.
        """
        views, tracks = self.scene.train, self.tracks
        if any(view.load_depth for view in views):
            report_depth(views, tracks)
        depth = median_depth(views, tracks.positions)
        if depth is None and self.scene.points is not None:
            depth = median_depth(views, self.scene.points.positions)
        change = MapFrame(unit=usual_unit(depth))
        self.frame = MapFrame(self.frame.origin, change.unit)
        self.scene = change.scene_in_map(self.scene)
        self.tracks = replace(tracks, positions=change.points_in_map(tracks.positions))

    @cached_property
    def tracks(self) -> Tracks:
        """Points triangulated from the keypoints of all training views with the scene's poses."""
        views = self.scene.train
        keypoints = CachedKeypoints(self.cache, views)
        return triangulate(views, keypoints, self.device, self.quiet)

    def initial_gaussians(self) -> Gaussians:
        """The Gaussians that training starts from, on the training device."""
        options = self.options
        generator = torch.Generator().manual_seed(options.schedule.seed)
        points = initialization.initial_points(
            self.scene, self.data.train, options.initialization, lambda: self.tracks, generator
        )
        log(f"initial points: {len(points)}", self.quiet)
        features, decoder = self._initial_features(len(points), generator)
        gaussians = initialization.gaussians_from_points(points, options.schedule.sh_degree, features)
        return replace(gaussians, feature_decoder=decoder).to(self.device)

    def landmarks(self) -> Landmarks:
        """Landmarks of all training views."""
        version, most = self.cache.extractor.version, self.options.descriptors.max_landmarks
        views, tracks = self.scene.train, self.tracks
        noise = pose_noise(views, tracks, CachedKeypoints(self.cache, views))
        return build_landmarks(views, tracks, version, most, noise)

    def final_gaussians(self, gaussians: Gaussians) -> Gaussians:
        """The trained Gaussians with their descriptors, on the CPU."""
        if self.options.descriptors.descriptors != "aggregated":
            return gaussians.to("cpu")
        views, cache = self.scene.train, self.cache
        options = self.options.rendering.render_options(self.data.white_background)
        features = aggregate_descriptors(gaussians, views, cache, options, self.quiet)
        gaussians = replace(gaussians, features=features, feature_decoder=None)
        rates, seed = self.options.descriptors.descriptor_rates(), self.options.schedule.seed
        features = distill_descriptors(gaussians, views, cache, options, rates, seed, self.quiet)
        return replace(gaussians, features=features).to("cpu")

    def _initial_features(
        self, count: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Descriptors [N, C] to start from and, with --speedup, the decoder [D, C]."""
        options = self.options.descriptors
        if options.descriptors != "distilled":
            return torch.zeros(count, 0), None
        size = self.cache.load_dense(self.scene.train[0]).shape[0]
        if not options.speedup:
            return torch.zeros(count, size), None
        channels = SPEEDUP_CHANNELS
        # A product of two zeros has no gradient: both factors start small and random.
        decoder = torch.randn(size, channels, generator=generator) / channels**0.5
        return 0.1 * torch.randn(count, channels, generator=generator), decoder


def train(
    scene: Scene,
    output: Path | str,
    options: MappingOptions,
    config: MapConfig,
    extractor: Extractor | None = None,
    watcher: Watcher | None = None,
) -> TrainingReport:
    """Make the map of a scene in the folder `output`. Test views are not touched.

    `config` records where the scene came from; `watcher` is called with the map while it trains; `extractor`
    replaces that of the options. Raises GSplatLocError for errors that a user can correct.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    start = options.output.start_checkpoint
    checkpoint = load_checkpoint(start) if start else None
    rendering = options.rendering
    device = rendering_device(rendering.device, rendering.backend, options.output.quiet)
    data_device(options.frames, device)  # an error is raised now, not minutes later
    extractor = extractor or make_extractor(options.descriptors.extractor, device, options.descriptors.top_k)
    mapper = Mapper(scene, output, options, extractor, device, config.scene.white_background)
    clock = Clock()
    check_masks(scene.train)
    mapper.cache.prepare(scene.train, options.output.quiet)
    clock.lap("features")
    mapper.refine_poses()
    _check_poses(mapper)
    mapper.choose_unit()
    if not mapper.frame.is_world:
        log(f"map coordinates: {mapper.frame}", options.output.quiet)
    version, top_k = extractor.version, extractor.top_k
    write_config(output, replace(config, frame=mapper.frame, extractor=version, top_k=top_k))
    write_cameras(output, mapper.scene.train)
    gaussians = placeholder_gaussians(device) if checkpoint else mapper.initial_gaussians()
    clock.lap("initialization")
    use_features = options.descriptors.descriptors == "distilled"
    with FrameLoader(options.frames, mapper.cache if use_features else None, device) as loader:
        trainer = Trainer(mapper.data, gaussians, loader, options, output, watcher)
        if checkpoint is not None:
            trainer.resume(checkpoint)
        completed = trainer.run()
    clock.lap("training")
    landmarks = 0
    if completed:
        try:
            landmarks = _complete(mapper, trainer, clock)
        except KeyboardInterrupt:
            trainer.save_interrupted()
            completed = False
    return TrainingReport(
        trainer.iteration, completed, clock.seconds, len(trainer.gaussians), trainer.quality, landmarks,
        _sizes(output, trainer.iteration), mapper.cache.folder,
    )  # fmt: skip


def _check_poses(mapper: Mapper) -> None:
    """Raise GSplatLocError, or warn, if the images contradict the poses of the scene."""
    scene = mapper.scene
    found = contradiction(scene, CachedKeypoints(mapper.cache, scene.train), mapper.tracks)
    if found is None:
        few = outliers(scene.train, mapper.tracks)
        if few:
            log(f"warning: {few}", stream=sys.stderr)
        return
    if found.certain and mapper.options.initialization.check_poses:
        raise GSplatLocError(f"{found.text}; --no_check_poses maps the scene all the same")
    log(f"warning: {found.text}", stream=sys.stderr)


def _complete(mapper: Mapper, trainer: Trainer, clock: Clock) -> int:
    """Write the final map and its landmarks; returns the number of landmarks."""
    trim_heap()  # what training freed: descriptors need memory of other sizes
    save_gaussians(mapper.output, trainer.iteration, mapper.final_gaussians(trainer.gaussians))
    report_later_iterations(mapper.output, trainer.iteration)
    exposure_path = mapper.output / EXPOSURE_NAME
    if trainer.exposure_network is not None:
        save_exposure(exposure_path, trainer.exposure_network)
    else:
        exposure_path.unlink(missing_ok=True)  # of an earlier map in the same folder
    clock.lap("descriptors")
    trim_heap()
    landmarks = mapper.landmarks()
    save_landmarks(landmarks, mapper.output / LANDMARKS_NAME)
    clock.lap("landmarks")
    if not len(landmarks):
        log(f"warning: {_NO_LANDMARKS}", stream=sys.stderr)
    return len(landmarks)


def feature_cell(extractor: Extractor, view: View) -> int:
    """Pixels of a view per cell of its feature map, in each direction."""
    return round(view.camera.width / extractor.dense_size(view.camera.width, view.camera.height)[1])


def split_holdout(views: Sequence[View], every: int) -> tuple[list[View], list[View]]:
    """(training views, validation views): every N-th is a validation view, none for N = 0."""
    if every == 0:
        return list(views), []
    held_out = list(views[every // 2 :: every])
    names = {view.name for view in held_out}
    return [view for view in views if view.name not in names], held_out


def placeholder_gaussians(device: torch.device) -> Gaussians:
    """No Gaussians, where those of a checkpoint will be loaded."""
    shapes = {"means": (0, 3), "quaternions": (0, 4), "log_scales": (0, 3), "opacity_logits": (0,)}
    shapes |= {"sh": (0, 1, 3), "features": (0, 0)}
    tensors: dict[str, Any] = {name: torch.zeros(shape, device=device) for name, shape in shapes.items()}
    return Gaussians(**tensors)


def _sizes(output: Path, iteration: int) -> dict[str, int]:
    splats = output.glob(f"point_cloud/iteration_{iteration}/*")
    paths = [output / LANDMARKS_NAME, output / EXPOSURE_NAME, *splats]
    return {path.name: path.stat().st_size for path in paths if path.is_file()}
