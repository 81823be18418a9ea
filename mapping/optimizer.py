"""Adam over the parameters of a map: a learning rate per parameter, and edits of the set of Gaussians."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gsplatloc.gaussian_renderer import native
from gsplatloc.mapping import reference
from gsplatloc.mapping.options import OptimizerOptions
from gsplatloc.scene.densification import Edit
from gsplatloc.scene.gaussians import Gaussians

_BETAS = (0.9, 0.999)
_EPSILON = 1e-15  # gradients of a mean over pixels are tiny: Adam's usual 1e-8 would damp them


def position_rate(options: OptimizerOptions, iteration: float) -> float:
    """The learning rate of positions at an iteration, in units of the scene's extent."""
    if options.position_lr_init <= 0:
        return 0.0
    progress = min(iteration / max(options.position_lr_max_steps, 1), 1.0)
    final = max(options.position_lr_final, 1e-12)
    rate = math.exp((1 - progress) * math.log(options.position_lr_init) + progress * math.log(final))
    if options.position_lr_delay_steps > 0:
        rise = math.sin(math.pi / 2 * min(iteration / options.position_lr_delay_steps, 1.0))
        rate *= options.position_lr_delay_mult + (1 - options.position_lr_delay_mult) * rise
    return rate


@dataclass
class _Parameter:
    """A leaf, its learning rate and Adam's moments."""

    value: Tensor
    rate: float
    exp_avg: Tensor
    exp_avg_sq: Tensor
    step: int = 0  # steps taken


class MapOptimizer:
    """Holds a map's parameters as leaves and steps them. SH are split into two parts with their own rates."""

    def __init__(self, gaussians: Gaussians, options: OptimizerOptions, extent: float) -> None:
        """`extent`: of the scene in metres, the unit of the position rate."""
        self._options, self._extent = options, extent
        rates = {
            "means": 0.0,  # set at every iteration
            "quaternions": options.rotation_lr,
            "log_scales": options.scaling_lr,
            "opacity_logits": options.opacity_lr,
            "sh_base": options.color_lr,
            "sh_rest": options.color_lr / 20,
            "features": options.feature_lr,
            "feature_decoder": options.feature_lr,
        }
        self._parameters = {
            name: _Parameter(leaf, rates[name], torch.zeros_like(leaf), torch.zeros_like(leaf))
            for name, leaf in ((name, _leaf(tensor)) for name, tensor in _split(gaussians).items())
        }

    def __len__(self) -> int:
        """The number of Gaussians."""
        return self._parameters["means"].value.shape[0]

    def gaussians(self, constant_colours: bool = False) -> Gaussians:
        """The map, differentiable down to the leaves; with `constant_colours` without higher harmonics.

        While these are not in use, their gradient is zero, and most of the map's numbers need not be copied.
        """
        values = {name: parameter.value for name, parameter in self._parameters.items()}
        if constant_colours:
            values["sh_rest"] = values["sh_rest"][:, :0]
        return _join(values)

    def position_lr(self, iteration: float) -> float:
        """The position rate at an iteration, in metres."""
        return position_rate(self._options, iteration) * self._extent

    def step(self, iteration: float, visible: Tensor | None = None) -> None:
        """Step every parameter that has a gradient, and drop the gradients.

        `iteration` sets the position rate; it is fractional in the cool-down of an early stop. `visible` [N]
        bool: the Gaussians that were rendered; with `sparse_adam`, others and their moments are kept.
        """
        self._parameters["means"].rate = self.position_lr(iteration)
        implementation = native.package_for(self._parameters["means"].value) or reference
        due = []
        for name, parameter in self._parameters.items():
            leaf, gradient = parameter.value, parameter.value.grad
            parameter.step += 1
            if gradient is None:
                continue
            rows = visible if self._options.sparse_adam and name != "feature_decoder" else None
            moments = parameter.exp_avg, parameter.exp_avg_sq
            due.append(
                implementation.AdamParameter(
                    leaf.detach(), gradient.contiguous(), *moments, parameter.rate, parameter.step, rows
                )
            )
            leaf.grad = None
        implementation.adam_step(due, _BETAS, _EPSILON)

    def move_means(self, offsets: Tensor) -> None:
        """Add offsets [N, 3] in metres to the means, without gradient."""
        self._parameters["means"].value.data.add_(offsets)

    def apply(self, edit: Edit) -> None:
        """Replace the Gaussians by the edit's; each takes its parent's moments."""
        values = _split(edit.gaussians)
        restarted = {part for name in edit.restarted for part in _parts_of(name)}
        for name, parameter in self._parameters.items():
            if name == "feature_decoder":
                continue
            parameter.value = _leaf(values[name])
            parameter.exp_avg = _followed(parameter.exp_avg, edit, name in restarted)
            parameter.exp_avg_sq = _followed(parameter.exp_avg_sq, edit, name in restarted)

    def state(self) -> dict[str, Tensor]:
        """Parameters and moments, by dotted names."""
        state: dict[str, Tensor] = {}
        for name, parameter in self._parameters.items():
            state[f"{name}.value"] = parameter.value.detach()
            state[f"{name}.step"] = torch.tensor(float(parameter.step))
            state[f"{name}.exp_avg"] = parameter.exp_avg
            state[f"{name}.exp_avg_sq"] = parameter.exp_avg_sq
        return state

    @classmethod
    def from_state(
        cls, state: dict[str, Tensor], options: OptimizerOptions, extent: float, device: torch.device
    ) -> "MapOptimizer":
        """The optimiser that `state()` was taken from."""
        values = {key[:-6]: tensor.to(device) for key, tensor in state.items() if key.endswith(".value")}
        optimizer = cls(_join(values), options, extent)
        for name, parameter in optimizer._parameters.items():
            if f"{name}.step" in state:  # checkpoints of 0.1 omit parameters that were never stepped
                parameter.step = int(state[f"{name}.step"])
                parameter.exp_avg.copy_(state[f"{name}.exp_avg"])
                parameter.exp_avg_sq.copy_(state[f"{name}.exp_avg_sq"])
        return optimizer


def _followed(moment: Tensor, edit: Edit, restarted: bool) -> Tensor:
    """A moment [N, ...] of the Gaussians after an edit."""
    moment = moment[edit.parents]
    moment[slice(None) if restarted else edit.fresh] = 0
    return moment


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().contiguous().requires_grad_()


def _parts_of(name: str) -> tuple[str, ...]:
    return ("sh_base", "sh_rest") if name == "sh" else (name,)


def _split(gaussians: Gaussians) -> dict[str, Tensor]:
    """Parameters by name, the constant colour [N, 1, 3] separate from the higher harmonics [N, K - 1, 3]."""
    named = gaussians.parameters()
    sh = named.pop("sh")
    return named | {"sh_base": sh[:, :1], "sh_rest": sh[:, 1:]}


def _join(named: dict[str, Tensor]) -> Gaussians:
    base, rest = named["sh_base"], named["sh_rest"]
    others: dict[str, Any] = {name: tensor for name, tensor in named.items() if not name.startswith("sh_")}
    return Gaussians(sh=base if rest.shape[1] == 0 else torch.cat([base, rest], 1), **others)
