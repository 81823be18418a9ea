"""Which Gaussians to add and which to drop while a map is optimised, as interchangeable objects.

A `Densification` watches iterations (`observe`) and now and then returns an `Edit`. Whoever owns optimiser
moments follows an edit through `parents` and `fresh`: that is the only place where moments are moved.
"""

from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils import se3
from gsplatloc.utils.errors import GSplatLocError


@dataclass(frozen=True)
class DensificationOptions:
    """When and how Gaussians are added and dropped. Defaults: Kerbl et al. 2023."""

    densification: Literal["adc", "mcmc", "none"] = "adc"  # adaptive density control, MCMC, or a fixed set
    densify_from_iter: int = 500  # iteration after which Gaussians are added
    densify_until_iter: int = 15_000  # iteration after which the set is fixed
    densification_interval: int = 100  # iterations between two edits
    densify_grad_threshold: float = 2e-4  # mean gradient by the projected centre, in normalised coordinates
    percent_dense: float = 0.01  # of the scene's extent: larger Gaussians are split, smaller ones cloned
    opacity_reset_interval: int = 3_000  # iterations, 0 = never; adc only
    min_opacity: float = 0.005  # below it a Gaussian is dropped (adc) or moved elsewhere (mcmc)
    max_gaussians: int = 1_000_000  # cap on their number
    mcmc_noise: float = 5e5  # position noise in units of the position learning rate (Kheradmand et al. 2024)
    mcmc_opacity_weight: float = 0.01  # weight of the mean opacity in the loss; mcmc only
    mcmc_scale_weight: float = 0.01  # weight of the mean scale in the loss, per metre; mcmc only

    def __post_init__(self) -> None:
        if self.densification_interval < 1:
            raise GSplatLocError(
                f"expected --densification_interval of at least 1, found {self.densification_interval}:"
                " to keep the set as it is, use --densification none"
            )


@dataclass(frozen=True)
class Edit:
    """A new set of Gaussians and where each of them comes from."""

    gaussians: Gaussians  # M of them
    parents: Tensor  # [M] int64, the row that each one had, or was made from, before
    fresh: Tensor  # [M] bool, those whose optimiser moments start at zero
    restarted: tuple[str, ...] = ()  # parameters whose moments start at zero for every Gaussian


@dataclass(frozen=True)
class Observation:
    """What one iteration tells about the Gaussians."""

    radii: Tensor  # [N] int32 pixels, 0 = not visible
    screen_gradients: Tensor  # [N, 2] gradient of the loss by the projected centre, per pixel
    width: int  # pixels of the rendered image
    height: int


class Densification(Protocol):
    """Grows and prunes a set of Gaussians. All of its state is in tensors, so that a run can be resumed."""

    def observe(self, iteration: int, observation: Observation) -> None:
        """Take note of an iteration."""
        ...

    def edit(self, iteration: int, gaussians: Gaussians, generator: torch.Generator) -> Edit | None:
        """The change due after `iteration`, if any."""
        ...

    def regularization(self, iteration: int, gaussians: Gaussians) -> Tensor | None:
        """A differentiable term to add to the loss, if any."""
        ...

    def position_noise(
        self, iteration: int, gaussians: Gaussians, position_lr: float, generator: torch.Generator
    ) -> Tensor | None:
        """Noise [N, 3] in metres to add to the means after an optimiser step, if any."""
        ...

    def state(self) -> dict[str, Tensor]: ...

    def load_state(self, state: dict[str, Tensor]) -> None: ...


def make_densification(options: DensificationOptions, extent: float, count: int) -> Densification:
    """The densification that the options name, for `count` Gaussians in a scene of `extent` metres."""
    if options.densification == "adc":
        return AdaptiveDensityControl(options, extent, count)
    if options.densification == "mcmc":
        return MarkovChainMonteCarlo(options)
    return FixedSet()


class FixedSet:
    """Leaves the Gaussians as they are."""

    def observe(self, iteration: int, observation: Observation) -> None:
        pass

    def edit(self, iteration: int, gaussians: Gaussians, generator: torch.Generator) -> Edit | None:
        return None

    def regularization(self, iteration: int, gaussians: Gaussians) -> Tensor | None:
        return None

    def position_noise(
        self, iteration: int, gaussians: Gaussians, position_lr: float, generator: torch.Generator
    ) -> Tensor | None:
        return None

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        pass


class AdaptiveDensityControl(FixedSet):
    """Clones small and splits large Gaussians that the loss pulls at on screen (Kerbl et al. 2023, sec. 5).

    Beyond the paper: `max_gaussians` caps the number, and those with the largest gradient go first.
    """

    _SPLIT = 2  # Gaussians that replace a split one
    _SHRINK = 1.6  # factor between their scales (the paper's phi)
    _RESET_OPACITY = 0.01  # opacities are clamped to it at a reset
    _MAX_EXTENT_FRACTION = 0.1  # Gaussians larger than this fraction of the scene are dropped after a reset
    _MAX_RADIUS_PX = 20  # likewise those that were larger on the screen

    def __init__(self, options: DensificationOptions, extent: float, count: int) -> None:
        self._options = options
        self._extent = extent
        self._gradient_sum = torch.zeros(count)  # of the norms over the iterations that saw each Gaussian
        self._seen = torch.zeros(count, dtype=torch.int32)
        self._max_radii = torch.zeros(count)  # pixels

    def observe(self, iteration: int, observation: Observation) -> None:
        if iteration > self._options.densify_until_iter:
            return
        if self._seen.device != observation.radii.device:
            device = observation.radii.device
            self.load_state({name: tensor.to(device) for name, tensor in self.state().items()})
        visible = observation.radii > 0
        # Pixels to normalised device coordinates, which span 2 over the image: the threshold's unit.
        along_x, along_y = observation.screen_gradients.unbind(1)
        pull = torch.hypot(along_x * (observation.width / 2), along_y * (observation.height / 2))
        self._gradient_sum += pull * visible
        self._seen += visible
        self._max_radii = torch.maximum(self._max_radii, observation.radii.float())

    def edit(self, iteration: int, gaussians: Gaussians, generator: torch.Generator) -> Edit | None:
        options = self._options
        if iteration > options.densify_until_iter:
            return None
        edit = None
        if iteration > options.densify_from_iter and iteration % options.densification_interval == 0:
            edit = self._densify(iteration, gaussians, generator)
            self._restart(len(edit.gaussians), gaussians.device)
        # The last reset is left out: nothing would prune after it, and opacities need time to recover.
        reset = options.opacity_reset_interval
        if reset > 0 and iteration % reset == 0 and iteration < options.densify_until_iter:
            edit = self._reset_opacities(edit or _unchanged(gaussians))
        return edit

    def state(self) -> dict[str, Tensor]:
        return {"gradient_sum": self._gradient_sum, "seen": self._seen, "max_radii": self._max_radii}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._gradient_sum, self._seen = state["gradient_sum"].clone(), state["seen"].clone()
        self._max_radii = state["max_radii"].clone()

    def _restart(self, count: int, device: torch.device) -> None:
        self._gradient_sum = torch.zeros(count, device=device)
        self._seen = torch.zeros(count, dtype=torch.int32, device=device)
        self._max_radii = torch.zeros(count, device=device)

    def _densify(self, iteration: int, gaussians: Gaussians, generator: torch.Generator) -> Edit:
        large = gaussians.scales.amax(1) > self._options.percent_dense * self._extent
        prune = self._prunable(iteration, gaussians)
        grow = self._chosen() & ~prune
        keep = ~prune & ~(grow & large)
        kept, clones = keep.nonzero()[:, 0], (grow & ~large).nonzero()[:, 0]
        halves = (grow & large).nonzero()[:, 0].repeat(self._SPLIT)
        parents = torch.cat([kept, clones, halves])
        children = gaussians.select(parents)
        first = len(kept) + len(clones)
        split = gaussians.select(halves)
        children.means[first:] += _samples(split, generator)
        children.log_scales[first:] -= torch.tensor(self._SHRINK).log().item()
        return Edit(children, parents, torch.arange(len(parents), device=parents.device) >= len(kept))

    def _chosen(self) -> Tensor:
        """Mask [N] of the Gaussians to clone or split, within the cap: each adds one."""
        mean = self._gradient_sum / self._seen.clamp(min=1)
        chosen = mean >= self._options.densify_grad_threshold
        budget = max(self._options.max_gaussians - len(mean), 0)
        if int(chosen.sum()) > budget:
            best = torch.where(chosen, mean, -1.0).argsort(descending=True, stable=True)[:budget]
            chosen = torch.zeros_like(chosen)
            chosen[best] = True
        return chosen

    def _prunable(self, iteration: int, gaussians: Gaussians) -> Tensor:
        drop = gaussians.opacities < self._options.min_opacity
        if 0 < self._options.opacity_reset_interval < iteration:
            drop |= self._max_radii > self._MAX_RADIUS_PX
            drop |= gaussians.scales.amax(1) > self._MAX_EXTENT_FRACTION * self._extent
        return drop

    def _reset_opacities(self, edit: Edit) -> Edit:
        ceiling = torch.logit(torch.tensor(self._RESET_OPACITY)).item()
        logits = edit.gaussians.opacity_logits.clamp(max=ceiling)
        return replace(
            edit, gaussians=replace(edit.gaussians, opacity_logits=logits), restarted=("opacity_logits",)
        )


class MarkovChainMonteCarlo(FixedSet):
    """Moves dead Gaussians onto living ones and lets all of them diffuse.

    Kheradmand et al., "3D Gaussian splatting as Markov chain Monte Carlo" (NeurIPS 2024). Growth is 5 % per
    edit up to `max_gaussians`; opacity and scale are regularised so that useless Gaussians die.
    """

    _GROWTH = 1.05
    _NOISE_STEEPNESS, _NOISE_OPACITY = 100.0, 0.005  # noise fades as opacity rises above the latter

    def __init__(self, options: DensificationOptions) -> None:
        self._options = options

    def edit(self, iteration: int, gaussians: Gaussians, generator: torch.Generator) -> Edit | None:
        options = self._options
        due = iteration % options.densification_interval == 0
        if not due or not options.densify_from_iter < iteration <= options.densify_until_iter:
            return None
        count = len(gaussians)
        alive = gaussians.opacities > options.min_opacity
        if not alive.any():
            return None
        target = max(min(options.max_gaussians, int(count * self._GROWTH)), count)
        dead = (~alive).nonzero()[:, 0]
        empty = torch.cat([dead, torch.arange(count, target, device=dead.device)])
        sources = self._draw(gaussians.opacities * alive, len(empty), generator)
        parents = torch.cat([torch.arange(count, device=dead.device), sources[len(dead) :]])
        parents[dead] = sources[: len(dead)]
        return self._share(gaussians, parents)

    def regularization(self, iteration: int, gaussians: Gaussians) -> Tensor | None:
        opacity = self._options.mcmc_opacity_weight * gaussians.opacities.mean()
        return opacity + self._options.mcmc_scale_weight * gaussians.scales.mean()

    def position_noise(
        self, iteration: int, gaussians: Gaussians, position_lr: float, generator: torch.Generator
    ) -> Tensor | None:
        if iteration > self._options.densify_until_iter:
            return None
        transparency = torch.sigmoid(-self._NOISE_STEEPNESS * (gaussians.opacities - self._NOISE_OPACITY))
        rotation, scales = se3.rotation_from_quaternion(gaussians.quaternions), gaussians.scales
        noise = _normal(gaussians.means.shape, generator, gaussians.device)
        noise = noise * (transparency * position_lr * self._options.mcmc_noise)[:, None]
        # Shaped by the covariance R S S^T R^T: large Gaussians move far, flat ones within their plane.
        local = torch.einsum("nji,nj->ni", rotation, noise) * scales.square()
        return torch.einsum("nij,nj->ni", rotation, local)

    def _draw(self, weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """`count` rows drawn with replacement, in proportion to `weights` [N] >= 0."""
        cumulative = weights.double().cumsum(0).cpu()
        where = torch.rand(count, generator=generator, dtype=torch.float64) * cumulative[-1]
        rows = torch.searchsorted(cumulative, where, right=True)
        return rows.clamp(max=len(weights) - 1).to(weights.device)

    def _share(self, gaussians: Gaussians, parents: Tensor) -> Edit:
        """Gaussians that stand at the same place share its opacity, so that the rendering stays the same."""
        copies = torch.bincount(parents, minlength=len(gaussians))[parents]
        children = gaussians.select(parents)
        opacities, scales = shared_opacity_and_scale(children.opacities, children.scales, copies)
        logits = torch.logit(opacities.clamp(self._options.min_opacity, 1 - 1e-6))
        shared = copies > 1
        children.opacity_logits = torch.where(shared, logits, children.opacity_logits)
        children.log_scales = torch.where(shared[:, None], scales.log(), children.log_scales)
        return Edit(children, parents, shared)


def shared_opacity_and_scale(opacities: Tensor, scales: Tensor, copies: Tensor) -> tuple[Tensor, Tensor]:
    """Opacities [N] and scales [N, 3] with which `copies` [N] Gaussians at one place look like a single one.

    Kheradmand et al. 2024, equation 9:  o' = 1 - (1 - o)^(1/n)  and
    s' = s o / sum_{i=1..n} sum_{k=0..i-1} C(i-1, k) (-1)^k o'^(k+1) / sqrt(k+1).
    """
    most = 50  # as in the paper's experiments: beyond it the alternating sum loses its digits
    copies = copies.clamp(1, most).double()
    shared = 1 - (1 - opacities.double().clamp(max=1 - 1e-9)) ** (1 / copies)
    # The inner sum over i is hockey-stick: sum_{i=k+1..n} C(i-1, k) = C(n, k+1).
    denominator = torch.zeros_like(shared)
    binomial = torch.ones_like(shared)
    for k in range(int(copies.max())):
        binomial = binomial * (copies - k) / (k + 1)  # C(n, k+1), and 0 from k = n on
        denominator += binomial * (-1) ** k * shared ** (k + 1) / (k + 1) ** 0.5
    factor = opacities / denominator.clamp(min=1e-9)
    return shared.to(opacities), (scales * factor[:, None]).to(scales)


def _unchanged(gaussians: Gaussians) -> Edit:
    rows = torch.arange(len(gaussians), device=gaussians.device)
    return Edit(gaussians, rows, torch.zeros_like(rows, dtype=torch.bool))


def _samples(gaussians: Gaussians, generator: torch.Generator) -> Tensor:
    """A draw from each Gaussian, relative to its mean: [N, 3] metres."""
    local = gaussians.scales * _normal(gaussians.means.shape, generator, gaussians.device)
    return torch.einsum("nij,nj->ni", se3.rotation_from_quaternion(gaussians.quaternions), local)


def _normal(shape: torch.Size, generator: torch.Generator, device: torch.device) -> Tensor:
    """Standard normal numbers on `device`, reproducible from `generator`.

    Where they would have to travel, only a seed is drawn from it: millions of numbers would take longer to
    draw on a CPU and to copy than a training iteration.
    """
    if generator.device != device:
        seed = int(torch.randint(1 << 62, (), generator=generator))
        generator = torch.Generator(device).manual_seed(seed)
    return torch.randn(shape, generator=generator, device=device)
