"""The whole state of a training run in one safetensors file: tensors, and JSON in its metadata."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gsplatloc.utils.errors import GSplatLocError, quoted
from gsplatloc.utils.tensors import stored_tensors, write_tensors

FORMAT = 1  # increased whenever older files can no longer be resumed


@dataclass(frozen=True)
class Checkpoint:
    """The state from which a run continues exactly as if it had not been interrupted."""

    iteration: int  # the last one that was completed
    tensors: dict[str, Tensor]  # by dotted names, on the CPU
    facts: dict[str, Any]  # JSON values that must be the same in the run that resumes

    def group(self, prefix: str) -> dict[str, Tensor]:
        """The tensors below `prefix.`, by the rest of their names."""
        start = prefix + "."
        found = {name: tensor for name, tensor in self.tensors.items() if name.startswith(start)}
        return {name.removeprefix(start): tensor for name, tensor in found.items()}


def checkpoint_path(map_dir: Path | str, iteration: int) -> Path:
    """The path of the checkpoint of an iteration in a map."""
    return Path(map_dir) / f"checkpoint_{iteration}.safetensors"


def save_checkpoint(path: Path | str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, atomically: a run killed while writing leaves the previous one."""
    facts = {"format": FORMAT, "iteration": checkpoint.iteration, "facts": checkpoint.facts}
    write_tensors(path, checkpoint.tensors, {"gsplatloc": json.dumps(facts)})


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint; raises GSplatLocError if there is none that this version can resume."""
    with stored_tensors(path, "a checkpoint", "check --start_checkpoint") as (tensors, metadata):
        values = json.loads(metadata.get("gsplatloc", "{}"))
        found = values.get("format", "none")
        if found == FORMAT:
            return Checkpoint(_iteration(values), tensors, dict(values["facts"]))
    raise GSplatLocError(
        f"expected a checkpoint of format {FORMAT} at {path}, found {quoted(found)}: train anew"
    )


def _iteration(metadata: dict[str, Any]) -> int:
    iteration = metadata["iteration"]
    if not isinstance(iteration, int) or iteration < 0:
        raise ValueError(f"iteration {iteration}")
    return iteration
