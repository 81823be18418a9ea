"""A map whose making goes on where a run of the same settings was stopped or killed."""

import hashlib
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from gsplatloc.mapping.options import MappingOptions, OutputOptions
from gsplatloc.mapping.train import train
from gsplatloc.scene.cameras import Scene
from gsplatloc.scene.export import saved_iterations
from gsplatloc.scene.map_config import MapConfig, config_path
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError, quoted
from gsplatloc.utils.io import read_json, write_json

STATE_NAME = "map.json"  # which run the files of the folder are of, and whether it is finished


def make_map(scene: Scene, output: Path, options: MappingOptions, config: MapConfig) -> bool:
    """Make the map, or what an earlier run left of it to do; False if a signal ended the run."""
    quiet = options.output.quiet
    run = _name_of_run(scene, options)
    state = _state(output)
    if state == {"run": run, "finished": True}:
        log(f"{output}: the map is complete", quiet)
        return True
    if state != {"run": run, "finished": False}:
        if state.get("finished"):
            raise other_map(output)
        _remove_checkpoints(output)  # of a run that was stopped, with other options
        shutil.rmtree(output / "point_cloud", ignore_errors=True)
    write_json(output / STATE_NAME, {"run": run, "finished": False})
    checkpoint = max(_checkpoints(output), default=(0, None))[1]
    resumed = replace(options.output, start_checkpoint=None if checkpoint is None else str(checkpoint))
    report = train(scene, output, replace(options, output=resumed), config)
    if report.completed:
        write_json(output / STATE_NAME, {"run": run, "finished": True})
        _remove_checkpoints(output)
        log("\n".join(report.lines()), quiet)
    return report.completed


def is_finished(output: Path) -> bool:
    """Whether the map in the folder is complete; `make_map` then checks that it is the one that is wanted."""
    return bool(_state(output).get("finished"))


def holds_a_map(output: Path) -> bool:
    """Whether there is a map, or a run that was stopped."""
    return config_path(output).is_file() or bool(saved_iterations(output) or _checkpoints(output))


def _state(output: Path) -> dict[str, Any]:
    """The record of an earlier run; empty without one. Raises GSplatLocError if it is damaged."""
    path = output / STATE_NAME
    state = read_json(path) if path.is_file() else {}
    if not isinstance(state, dict):
        raise GSplatLocError(f"expected the state of a map in {path}, found {quoted(state)}: delete the file")
    return state


def other_map(output: Path) -> GSplatLocError:
    return GSplatLocError(
        f"expected a folder without another map, found one in {output}: remove it, or pass another"
    )


def _name_of_run(scene: Scene, options: MappingOptions) -> str:
    """A hash of what the map depends on."""
    options = replace(options, output=OutputOptions())
    views = [(view.name, view.camera, view.cam_from_world.tolist()) for view in scene.train]
    return hashlib.sha256(repr((options, views)).encode()).hexdigest()[:16]


def _checkpoints(output: Path) -> list[tuple[int, Path]]:
    """The checkpoints in a folder, with their iterations."""
    paths = output.glob("checkpoint_*.safetensors")
    found = [(re.fullmatch(r"checkpoint_(\d+)", path.stem), path) for path in paths]
    return [(int(match[1]), path) for match, path in found if match]


def _remove_checkpoints(output: Path) -> None:
    for _, path in _checkpoints(output):
        path.unlink()
