"""Densification as Markov chain Monte Carlo sampling (Kheradmand et al., NeurIPS 2024)."""

import torch
from torch import Tensor

from gsplatloc.scene.densification.base import MIN_OPACITY, Densification, Edit, standard_normal
from gsplatloc.scene.densification_options import DensificationOptions
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.utils import se3


class MarkovChainMonteCarlo(Densification):
    """Moves Gaussians that became transparent to the places of opaque ones, and adds noise to all positions.

    Kheradmand et al., "3D Gaussian splatting as Markov chain Monte Carlo" (NeurIPS 2024). The number grows by
    5 % per edit up to `max_gaussians`; the loss penalises opacity and scale, so that Gaussians which improve
    no image become transparent.
    """

    _GROWTH = 1.05  # number of Gaussians after an edit, relative to before
    _NOISE = 5e5  # position noise in units of the position learning rate
    _OPACITY_WEIGHT = 0.01  # of the mean opacity in the loss
    _SCALE_WEIGHT = 0.01  # of the mean scale in the loss, per metre
    _NOISE_STEEPNESS, _NOISE_OPACITY = 100.0, 0.005  # noise vanishes as opacity rises above the latter

    def __init__(self, options: DensificationOptions) -> None:
        self._options = options

    def due(self, iteration: int) -> bool:
        return self._options.densifies(iteration)

    def edit(self, iteration: int, gaussians: Gaussians, generator: torch.Generator) -> Edit | None:
        options = self._options
        if not self.due(iteration):
            return None
        count = len(gaussians)
        alive = gaussians.opacities > MIN_OPACITY
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
        opacity = self._OPACITY_WEIGHT * gaussians.opacities.mean()
        return opacity + self._SCALE_WEIGHT * gaussians.scales.mean()

    def position_noise(
        self, iteration: int, gaussians: Gaussians, position_lr: float, generator: torch.Generator
    ) -> Tensor | None:
        if iteration > self._options.densify_until_iter:
            return None
        transparency = torch.sigmoid(-self._NOISE_STEEPNESS * (gaussians.opacities - self._NOISE_OPACITY))
        rotation, scales = se3.rotation_from_quaternion(gaussians.quaternions), gaussians.scales
        noise = standard_normal(gaussians.means.shape, generator, gaussians.device)
        noise = noise * (transparency * position_lr * self._NOISE)[:, None]
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
        """Divide the opacity of a Gaussian among its copies, so that the rendering stays the same."""
        copies = torch.bincount(parents, minlength=len(gaussians))[parents]
        children = gaussians.select(parents)
        opacities, scales = shared_opacity_and_scale(children.opacities, children.scales, copies)
        logits = torch.logit(opacities.clamp(MIN_OPACITY, 1 - 1e-6))
        shared = copies > 1
        children.opacity_logits = torch.where(shared, logits, children.opacity_logits)
        children.log_scales = torch.where(shared[:, None], scales.log(), children.log_scales)
        return Edit(children, parents, shared)


def shared_opacity_and_scale(opacities: Tensor, scales: Tensor, copies: Tensor) -> tuple[Tensor, Tensor]:
    """Opacities [N] and scales [N, 3] with which `copies` [N] copies of a Gaussian render like it.

    Kheradmand et al. 2024, equation 9:  o' = 1 - (1 - o)^(1/n)  and
    s' = s o / sum_{i=1..n} sum_{k=0..i-1} C(i-1, k) (-1)^k o'^(k+1) / sqrt(k+1).
    """
    most = 50  # as in the paper's experiments: with more, the alternating sum loses all digits to rounding
    copies = copies.clamp(1, most).double()
    shared = 1 - (1 - opacities.double().clamp(max=1 - 1e-9)) ** (1 / copies)
    # By the hockey-stick identity, sum_{i=k+1..n} C(i-1, k) = C(n, k+1).
    denominator = torch.zeros_like(shared)
    binomial = torch.ones_like(shared)
    for k in range(int(copies.max())):
        binomial = binomial * (copies - k) / (k + 1)  # C(n, k+1), and 0 from k = n on
        denominator += binomial * (-1) ** k * shared ** (k + 1) / (k + 1) ** 0.5
    factor = opacities / denominator.clamp(min=1e-9)
    return shared.to(opacities), (scales * factor[:, None]).to(scales)
