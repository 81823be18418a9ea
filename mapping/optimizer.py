"""Adam over the parameters of a map, with learning rates per parameter and edits of the set of Gaussians."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scene.densification import Edit
from scene.gaussians import Gaussians

_EPSILON = 1e-15  # gradients of a mean over pixels are tiny: Adam's usual 1e-8 would damp them


@dataclass(frozen=True)
class OptimizerOptions:
    """Learning rates of Adam, per iteration. Defaults: Kerbl et al. 2023, GSplatLoc for features."""

    position_lr_init: float = 1.6e-4  # at the first iteration, in units of the scene's extent
    position_lr_final: float = 1.6e-6  # at `position_lr_max_steps`; exponential in between
    position_lr_delay_mult: float = (
        0.01  # fraction of its schedule that the position rate starts at, if delayed
    )
    position_lr_delay_steps: int = 0  # iterations over which that fraction rises to one; 0 = no delay
    position_lr_max_steps: int = 30_000  # iterations; the rate stays at its final value afterwards
    color_lr: float = 0.0025  # of the constant colour; higher harmonics have a twentieth
    opacity_lr: float = 0.05  # of the opacity's logit
    scaling_lr: float = 0.005  # of the logarithm of the scales
    rotation_lr: float = 0.001  # of the quaternions
    feature_lr: float = 0.001  # of the descriptors, and of their decoder


def position_rate(options: OptimizerOptions, iteration: int) -> float:
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


class MapOptimizer:
    """Holds a map's parameters as leaves and steps them. SH are split: their parts have their own rates."""

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
        leaves = {name: _leaf(tensor) for name, tensor in _split(gaussians).items()}
        groups = [{"params": [leaf], "lr": rates[name], "name": name} for name, leaf in leaves.items()]
        # "fused" is one pass over memory on a CPU as on a GPU: ten times faster than a loop over operations.
        self._adam = torch.optim.Adam(groups, eps=_EPSILON, fused=True)

    def __len__(self) -> int:
        """The number of Gaussians."""
        return self._leaves()["means"].shape[0]

    def gaussians(self) -> Gaussians:
        """The map, differentiable down to the leaves."""
        return _join({name: leaf for name, leaf in self._leaves().items()})

    def position_lr(self, iteration: int) -> float:
        """The position rate at an iteration, in metres."""
        return position_rate(self._options, iteration) * self._extent

    def step(self, iteration: int) -> None:
        """Step every parameter that has a gradient, and drop the gradients."""
        for group in self._adam.param_groups:
            if group["name"] == "means":
                group["lr"] = self.position_lr(iteration)
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)

    def move_means(self, offsets: Tensor) -> None:
        """Add offsets [N, 3] in metres to the means, outside of the gradient."""
        self._leaves()["means"].data.add_(offsets)

    def apply(self, edit: Edit) -> None:
        """Replace the Gaussians by the edit's; moments follow their Gaussians."""
        values = _split(edit.gaussians)
        restarted = {part for name in edit.restarted for part in _parts_of(name)}
        for group in self._adam.param_groups:
            name = group["name"]
            if name == "feature_decoder":
                continue
            old, new = group["params"][0], _leaf(values[name])
            state = self._adam.state.pop(old, {})
            for moment in ("exp_avg", "exp_avg_sq"):
                if moment in state:
                    state[moment] = state[moment][edit.parents]
                    state[moment][edit.fresh] = 0
                    if name in restarted:
                        state[moment].zero_()
            group["params"] = [new]
            if state:
                self._adam.state[new] = state

    def state(self) -> dict[str, Tensor]:
        """Parameters and moments, by dotted names."""
        state: dict[str, Tensor] = {}
        for name, leaf in self._leaves().items():
            state[f"{name}.value"] = leaf.detach()
            for key, value in self._adam.state.get(leaf, {}).items():
                state[f"{name}.{key}"] = value
        return state

    @classmethod
    def from_state(
        cls, state: dict[str, Tensor], options: OptimizerOptions, extent: float, device: torch.device
    ) -> "MapOptimizer":
        """The optimiser that `state()` was taken from."""
        values = {key[:-6]: tensor.to(device) for key, tensor in state.items() if key.endswith(".value")}
        optimizer = cls(_join(values), options, extent)
        for name, leaf in optimizer._leaves().items():
            moments = {key: state.get(f"{name}.{key}") for key in ("step", "exp_avg", "exp_avg_sq")}
            if moments["step"] is not None:
                optimizer._adam.state[leaf] = {
                    key: tensor.to(device, copy=True) for key, tensor in moments.items() if tensor is not None
                }
        return optimizer

    def _leaves(self) -> dict[str, Tensor]:
        return {group["name"]: group["params"][0] for group in self._adam.param_groups}


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().contiguous().requires_grad_()


def _parts_of(name: str) -> tuple[str, ...]:
    return ("sh_base", "sh_rest") if name == "sh" else (name,)


def _split(gaussians: Gaussians) -> dict[str, Tensor]:
    """Parameters by name, the constant colour [N, 1, 3] apart from the higher harmonics [N, K - 1, 3]."""
    named = gaussians.parameters()
    sh = named.pop("sh")
    return named | {"sh_base": sh[:, :1], "sh_rest": sh[:, 1:]}


def _join(named: dict[str, Tensor]) -> Gaussians:
    base, rest = named["sh_base"], named["sh_rest"]
    others = {name: tensor for name, tensor in named.items() if not name.startswith("sh_")}
    return Gaussians(sh=base if rest.shape[1] == 0 else torch.cat([base, rest], 1), **others)
