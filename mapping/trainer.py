"""The training loop: one view per iteration."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from gsplatloc.gaussian_renderer import RenderResult, render
from gsplatloc.localization.alignment.exposure import ExposureNetwork
from gsplatloc.localization.features import DEFAULT_EXTRACTOR
from gsplatloc.mapping import losses
from gsplatloc.mapping.evaluation import ImageQuality, evaluate, quality_line
from gsplatloc.mapping.exposure import AdaptiveExposure, make_exposure
from gsplatloc.mapping.frames import FrameLoader, Request, TrainingFrame, masked_target
from gsplatloc.mapping.log import TrainingLog
from gsplatloc.mapping.optimizer import MapOptimizer
from gsplatloc.mapping.options import SPEEDUP_CHANNELS, MappingOptions
from gsplatloc.mapping.resuming import STATE_ERRORS, check_state
from gsplatloc.mapping.schedule import ViewOrder
from gsplatloc.mapping.stopping import EarlyStop
from gsplatloc.scene.cameras import View
from gsplatloc.scene.checkpoint import Checkpoint, checkpoint_path, save_checkpoint
from gsplatloc.scene.densification import Observation, make_densification
from gsplatloc.scene.export import save_gaussians
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.map_frame import MapFrame
from gsplatloc.utils.console import ProgressBar, log
from gsplatloc.utils.errors import GSplatLocError, quoted
from gsplatloc.utils.memory import trim_heap
from gsplatloc.utils.signals import InterruptRequest, finishing
from gsplatloc.utils.tensors import write_tensors

_LOOK_AHEAD = 4  # frames decoded ahead
_STATS_INTERVAL = 10  # iterations: to read figures, the host waits for the GPU
_LOG_INTERVAL = 100  # iterations between two lines of training.jsonl
# Iterations after which freed memory goes back to the system, which takes as long as one of them; and while
# images of a new size are decoded, which leaves 300 MB of RedKitchen's unused within 100 iterations.
_TRIM_INTERVAL, _TRIM_INTERVAL_DECODING = 100, 25
_TRAINED_VIEWS = 5  # evaluated where there are no validation views
_SMOOTHING = 0.8  # weight of the previous figures in those shown

Watcher = Callable[[Gaussians, int, dict[str, float]], None]  # (map, iteration, figures), every 10 iterations


@dataclass(frozen=True)
class TrainingSet:
    """The views of a run, and the unit of its learning rates."""

    train: Sequence[View]
    holdout: Sequence[View]  # validation views: never optimised for
    extent: float  # units of the map
    white_background: bool = False
    cell: int | None = None  # pixels per cell of the feature map, if images of its size are trained on
    frame: MapFrame = MapFrame()  # the coordinates of the views


class Trainer:
    """Optimises a map. All of its state can be saved, so that a resumed run gives bit-identical results."""

    def __init__(
        self,
        data: TrainingSet,
        gaussians: Gaussians,
        loader: FrameLoader,
        options: MappingOptions,
        output: Path,
        watcher: Watcher | None = None,
    ) -> None:
        """`gaussians`: the initial ones. Files go to the map's folder `output`."""
        self.iteration = 0
        self.quality: ImageQuality | None = None
        self._data, self._loader, self._options, self._output = data, loader, options, output
        self._watcher = watcher
        self._device = gaussians.device
        # Uploaded once: a copy of sixteen numbers per iteration would make the host wait for the GPU.
        self._poses = torch.stack([view.cam_from_world for view in data.train]).to(gaussians.means)
        self._render_options = options.rendering.render_options(data.white_background)
        self._optimizer = MapOptimizer(gaussians, options.optimizer, data.extent)
        self._densification = make_densification(options.densification, data.extent, len(gaussians))
        self._order = ViewOrder(len(data.train), options.schedule.seed)
        self._stop = EarlyStop(options.stopping, options.schedule.iterations, options.settled_iteration())
        self._evaluated: int | None = None  # iteration that `quality` is of
        self._generator = torch.Generator().manual_seed(options.schedule.seed + 1)
        count = len(data.train)
        self._exposure = make_exposure(
            options.rendering.exposure_kind, count, self._device, options.schedule.seed
        )

    @property
    def gaussians(self) -> Gaussians:
        """The current map, without gradients."""
        return self._optimizer.gaussians().detach()

    @property
    def exposure_network(self) -> ExposureNetwork | None:
        """The exposure network to save with the map; None for other exposure models."""
        return self._exposure.network if isinstance(self._exposure, AdaptiveExposure) else None

    def run(self) -> bool:
        """Train to the last iteration; False if a signal ended the run, after writing a checkpoint.

        Intermediate files are written; the caller completes and saves the final map.
        """
        options = self._options
        training_log = TrainingLog(self._output, self.iteration)
        started, figures = time.perf_counter(), dict[str, float]()
        bar = ProgressBar(options.schedule.iterations, "training", self.iteration, options.output.quiet)
        anomalies = torch.autograd.set_detect_anomaly(options.debug.detect_anomaly)
        with bar, InterruptRequest() as interrupt, anomalies:
            while self.iteration < self._stop.last_iteration and not interrupt.requested:
                self.iteration += 1
                loss, psnr = self._step(self.iteration)
                if psnr is not None:
                    figures = _smoothed(figures, {"loss": loss.item(), "psnr": psnr})
                    self._watch(figures)
                bar.advance(f"PSNR {figures['psnr']:.1f} dB" if figures else "")
                if self.iteration % _LOG_INTERVAL == 0:
                    count, seconds = len(self._optimizer), round(time.perf_counter() - started, 3)
                    training_log.write("train", self.iteration, **figures, gaussians=count, seconds=seconds)
                if self.iteration % self._trim_interval() == 0:
                    trim_heap()
                self._write_due_files(training_log)
            if not interrupt.requested and self._evaluated != self.iteration:
                self._evaluate(training_log)
        if interrupt.requested:
            self.save_interrupted()
        return not interrupt.requested

    def checkpoint(self) -> Checkpoint:
        """The complete state after the current iteration."""
        groups = {
            "optimizer": self._optimizer.state(),
            "densification": self._densification.state(),
            "order": self._order.state(),
            "sampling": {"generator": self._generator.get_state()},
            "stopping": self._stop.state(),
            "exposure": self._exposure.state() if self._exposure else {},
        }
        tensors = {f"{group}.{name}": value for group in groups for name, value in groups[group].items()}
        return Checkpoint(self.iteration, tensors, self._facts())

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint; raises GSplatLocError if it is of another scene or other options."""
        # Checkpoints of earlier versions are of the default extractor and in the coordinates of the scene.
        earlier = {"extractor": DEFAULT_EXTRACTOR, "frame": _frame_fact(MapFrame())}
        facts, found = self._facts(), earlier | checkpoint.facts
        others = [name for name, value in facts.items() if found.get(name) != value]
        if others:
            raise GSplatLocError(
                f"expected a checkpoint of this run, found one with other {', '.join(others)}:"
                " resume with the scene and the options that it was started with"
            )
        types = {name: tensor.dtype for name, tensor in self.checkpoint().tensors.items()}
        try:
            for name, tensor in checkpoint.tensors.items():
                if types.get(name, tensor.dtype) != tensor.dtype:
                    raise TypeError(f"{name} of {tensor.dtype}")
            self._load(checkpoint)
            degree = self._options.schedule.sh_degree
            check_state(self.gaussians, self.checkpoint().tensors, len(self._data.train), degree)
        except STATE_ERRORS as error:
            raise GSplatLocError(
                f"expected the state of a run in the checkpoint of iteration {checkpoint.iteration}, found"
                f" {quoted(repr(error))}: pass another"
            ) from None

    def _load(self, checkpoint: Checkpoint) -> None:
        self.iteration = checkpoint.iteration
        self._optimizer = MapOptimizer.from_state(
            checkpoint.group("optimizer"), self._options.optimizer, self._data.extent, self._device
        )
        self._densification.load_state(checkpoint.group("densification"))
        self._order.load_state(checkpoint.group("order"))
        self._generator.set_state(checkpoint.group("sampling")["generator"])
        self._stop.load_state(checkpoint.group("stopping"))
        if self._exposure:
            self._exposure.load_state(checkpoint.group("exposure"))

    def _facts(self) -> dict[str, object]:
        names = [view.name for view in self._data.train]
        options = self._options
        return {
            "views": names,
            "frame": _frame_fact(self._data.frame),
            "densification": options.densification.densification,
            "exposure": "act" if options.rendering.exposure_kind == "act" else options.rendering.exposure,
            "descriptors": options.descriptors.descriptors,
            "extractor": options.descriptors.extractor,
            "channels": SPEEDUP_CHANNELS if options.descriptors.speedup else None,
            "sh_degree": options.schedule.sh_degree,
            "seed": options.schedule.seed,
        }

    def _step(self, iteration: int) -> tuple[Tensor, float | None]:
        """One iteration: the loss, and every 10 iterations the view's PSNR in dB."""
        upcoming = self._order.upcoming(1 + _LOOK_AHEAD)
        requests = [self._request(index, iteration + ahead) for ahead, index in enumerate(upcoming)]
        self._loader.prefetch(requests)
        index, frame = self._order.advance(), self._loader.load(requests[0])
        gaussians = self._optimizer.gaussians(self._options.schedule.degree(iteration) == 0)
        offsets = None
        if self._densification.observes(iteration):
            offsets = torch.zeros(len(gaussians), 2, device=self._device, requires_grad=True)
        with self._dump_on_failure(iteration, gaussians, frame):
            result = self._render(iteration, index, gaussians, frame, offsets)
            loss = self._loss(iteration, index, gaussians, frame, result)
            loss.backward()
        psnr = losses.psnr(result.rgb.detach(), frame.rgb) if iteration % _STATS_INTERVAL == 0 else None
        with torch.no_grad():
            self._update(iteration, frame, result, offsets, gaussians)
        return loss.detach(), psnr

    def _trim_interval(self) -> int:
        """Iterations; fewer in the first pass over the views after the resolution has risen."""
        schedule, camera, cell = self._options.schedule, self._data.train[0].camera, self._data.cell
        before = schedule.scale(camera, self.iteration - len(self._data.train), cell)
        decoding = before != schedule.scale(camera, self.iteration, cell)
        return _TRIM_INTERVAL_DECODING if decoding else _TRIM_INTERVAL

    def _request(self, index: int, iteration: int) -> Request:
        options, view = self._options, self._data.train[index]
        distilled = options.descriptors.descriptors == "distilled"
        return Request(
            view,
            options.schedule.scale(view.camera, iteration, self._data.cell),
            features=distilled,
            depth=options.losses.lambda_depth > 0,
        )

    def _render(
        self, iteration: int, index: int, gaussians: Gaussians, frame: TrainingFrame, offsets: Tensor | None
    ) -> RenderResult:
        size = None if frame.features is None else (frame.features.shape[1], frame.features.shape[2])
        degree = self._options.schedule.degree(iteration)
        options = replace(self._render_options, sh_degree=degree, feature_size=size)
        return render(gaussians, frame.camera, self._poses[index], options, offsets)

    def _loss(
        self, iteration: int, index: int, gaussians: Gaussians, frame: TrainingFrame, result: RenderResult
    ) -> Tensor:
        options = self._options.losses
        rgb = self._exposure.apply(index, result.rgb, frame.rgb) if self._exposure else result.rgb
        loss = losses.photometric_loss(rgb, masked_target(frame.rgb, rgb, frame.mask), options.lambda_dssim)
        if frame.features is not None and result.features is not None:
            target = masked_target(frame.features, result.features, frame.small_mask())
            loss = loss + options.lambda_feature * losses.feature_loss(result.features, target)
        if frame.depth is not None:
            loss = loss + options.lambda_depth * losses.depth_loss(result.depth, result.alpha, frame.depth)
        penalty = self._densification.regularization(iteration, gaussians)
        return loss if penalty is None else loss + penalty

    def _update(
        self,
        iteration: int,
        frame: TrainingFrame,
        result: RenderResult,
        offsets: Tensor | None,
        gaussians: Gaussians,
    ) -> None:
        """Step the parameters, which `gaussians` share except for colours, then the set of Gaussians."""
        scheduled = self._stop.schedule_iteration(iteration)
        self._optimizer.step(scheduled, result.radii > 0)
        if self._exposure:
            self._exposure.step()
        noise = self._densification.position_noise(
            iteration, gaussians, self._optimizer.position_lr(scheduled), self._generator
        )
        if noise is not None:
            self._optimizer.move_means(noise)
        if offsets is not None:
            pulls = torch.zeros_like(offsets) if offsets.grad is None else offsets.grad
            camera = frame.camera
            self._densification.observe(Observation(result.radii, pulls, camera.width, camera.height))
        if self._stop.cooling_down:
            return  # the learning rate is too low for new Gaussians to settle
        if not self._densification.due(iteration):
            return
        edit = self._densification.edit(iteration, self._optimizer.gaussians(), self._generator)
        if edit is not None:
            self._optimizer.apply(edit)

    def _watch(self, figures: dict[str, float]) -> None:
        if self._watcher is not None:
            self._watcher(self.gaussians, self.iteration, figures)

    def _write_due_files(self, training_log: TrainingLog) -> None:
        output, watched = self._options.output, bool(self._data.holdout) and self._stop.due(self.iteration)
        if watched or self.iteration in output.test_iterations:
            quality = self._evaluate(training_log)
            if watched and self._stop.observe(self.iteration, quality.psnr):
                last = self._stop.last_iteration
                training_log.write("early_stop", self.iteration, last_iteration=last)
                if last < self._options.schedule.iterations:
                    log(f"[{self.iteration}] validation PSNR no longer rises: ends at {last}", output.quiet)
        if self.iteration in output.save_iterations:
            save_gaussians(self._output, self.iteration, self.gaussians)
        if self.iteration in output.checkpoint_iterations:
            save_checkpoint(checkpoint_path(self._output, self.iteration), self.checkpoint())

    def _evaluate(self, training_log: TrainingLog) -> ImageQuality:
        """Evaluate the validation views; if there are none, a few training views."""
        held_out = bool(self._data.holdout)
        stride = max(1, len(self._data.train) // _TRAINED_VIEWS)
        views = self._data.holdout if held_out else self._data.train[::stride][:_TRAINED_VIEWS]
        options = replace(self._render_options, sh_degree=self._options.schedule.degree(self.iteration))
        schedule, cell = self._options.schedule, self._data.cell
        requests = [Request(view, schedule.full_scale(view.camera, cell), depth=True) for view in views]
        quality = evaluate(self.gaussians, requests, self._loader, options, self.exposure_network)
        self.quality, self._evaluated = quality, self.iteration
        kind = "holdout" if held_out else "trained"
        training_log.write(kind, self.iteration, **quality.figures(), gaussians=len(self._optimizer))
        what = "validation" if held_out else "training"
        log(f"[{self.iteration}] {what} views: {quality_line(quality)}", self._options.output.quiet)
        return quality

    def save_interrupted(self) -> None:
        """Write a checkpoint and the map as it is, and print where."""
        path = checkpoint_path(self._output, self.iteration)
        with finishing():
            save_checkpoint(path, self.checkpoint())
            save_gaussians(self._output, self.iteration, self.gaussians)
        log(f"interrupted at iteration {self.iteration}: saved {path}")

    @contextmanager
    def _dump_on_failure(self, iteration: int, gaussians: Gaussians, frame: TrainingFrame) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if self._options.debug.active(iteration):
                path = self._output / f"failed_iteration_{iteration}.safetensors"
                _dump(path, gaussians, frame)
                error.add_note(f"the inputs of this iteration are in {path}")
            raise


def _dump(path: Path, gaussians: Gaussians, frame: TrainingFrame) -> None:
    """Write the inputs of a failing iteration."""
    tensors = gaussians.detach().parameters()
    tensors |= {"cam_from_world": frame.view.cam_from_world, "rgb": frame.rgb}
    tensors |= {"features_target": frame.features} if frame.features is not None else {}
    metadata = {"view": frame.view.name, "camera": repr(frame.camera)}
    write_tensors(path, tensors, metadata)


def _frame_fact(frame: MapFrame) -> list[float]:
    return [*frame.origin, frame.unit]


def _smoothed(old: dict[str, float], new: dict[str, float]) -> dict[str, float]:
    if not old:
        return new
    return {key: _SMOOTHING * old[key] + (1 - _SMOOTHING) * new[key] for key in new}
