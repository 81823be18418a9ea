"""Mapping and tracking in one call, from folder to folder: what the commands train and track do."""

from dataclasses import asdict, replace
from pathlib import Path

from gsplatloc.arguments.presets import Preset, mapping_preset
from gsplatloc.datasets.layout import is_metric
from gsplatloc.mapping import train as mapping
from gsplatloc.mapping.train import TrainingReport
from gsplatloc.scene import SceneOptions, read_scene
from gsplatloc.scene.map_config import MapConfig
from gsplatloc.tracking import run as tracking
from gsplatloc.tracking.options import Method, TrackingOptions
from gsplatloc.tracking.run import TrackingResult
from gsplatloc.tracking.sequence import read_sequence
from gsplatloc.utils.console import ProgressBar
from gsplatloc.utils.io import expanded
from gsplatloc.utils.locks import output_folder


def train(
    scene: Path | str,
    output: Path | str,
    preset: Preset = "cpu",
    iterations: int | None = None,
    eval: bool = False,
    quiet: bool = False,
) -> TrainingReport:
    """Make the map of the scene in the folder `scene`, in the folder `output`.

    `preset`: "cpu" by default (minutes on two cores), while the command `gsplatloc train` has "paper".
    `iterations`: number of training steps, instead of the preset's. `eval` holds out every 8th image as a
    test image, if the scene has no test images of its own. Raises `GSplatLocError` for an unreadable scene.
    More options: `gsplatloc.mapping.train.train`.
    """
    options = mapping_preset(preset)
    schedule = options.schedule
    options = replace(
        options,
        schedule=schedule if iterations is None else replace(schedule, iterations=iterations),
        output=replace(options.output, quiet=quiet),
    )
    scene_options = SceneOptions(eval=eval)
    source = expanded(scene).resolve()
    training, metric = asdict(options), is_metric(source)
    config = MapConfig(str(source), scene_options, preset, training=training, metric=metric)
    with output_folder(expanded(output)) as folder:
        return mapping.train(read_scene(source, scene_options), folder, options, config)


def track(
    sequence: Path | str, output: Path | str, method: Method = TrackingOptions.method, quiet: bool = False
) -> TrackingResult:
    """Track the RGB-D sequence in the folder `sequence`; write its trajectory and map into `output`.

    Raises `GSplatLocError` for an unreadable sequence. More options: `gsplatloc.tracking.run.track`.
    """
    options = TrackingOptions(method)
    with output_folder(expanded(output)) as folder:
        frames = read_sequence(expanded(sequence), SceneOptions(resolution=1))
        with ProgressBar(len(frames.views), "tracking", quiet=quiet) as bar:
            result = tracking.track(frames, options, bar.advance)
        tracking.write_result(folder, frames, options, result)
    return result
