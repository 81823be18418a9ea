"""Exposure of training images: an affine map of colours that is learned beside the Gaussians.

Two models: twelve parameters per training image, or a network over the image's histogram, which also applies
to images that were not trained on (`localization.alignment.exposure`).
"""

import torch
from torch import Tensor

from gsplatloc.localization.alignment.exposure import ExposureNetwork, luminance_histogram


class AffineExposure:
    """rgb' = A rgb + b for every training image, identity at first.

    All images could brighten while the map darkens. Therefore the mean of the offsets from the identity is
    subtracted after every step, which fixes the map to the images' mean exposure.
    """

    _LEARNING_RATE = 1e-3

    def __init__(self, count: int, device: torch.device) -> None:
        identity = torch.eye(3, 4, device=device)
        self._identity = identity
        self._affine = identity.repeat(count, 1, 1).requires_grad_()  # [V, 3, 4]
        self._adam = torch.optim.Adam([self._affine], lr=self._LEARNING_RATE)

    def apply(self, index: int, rgb: Tensor, image: Tensor | None = None) -> Tensor:
        """The image [3, H, W] in the exposure of view `index`; `image` is not used."""
        affine = self._affine[index]
        return torch.einsum("dc,chw->dhw", affine[:, :3], rgb) + affine[:, 3, None, None]

    def step(self) -> None:
        """Step the parameters by their gradients, then centre them."""
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        with torch.no_grad():
            self._affine -= self._affine.mean(0) - self._identity

    def state(self) -> dict[str, Tensor]:
        moments = self._adam.state.get(self._affine, {})
        return {"affine": self._affine.detach(), **moments}

    def load_state(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            self._affine.copy_(state["affine"])
        moments = {key: value for key, value in state.items() if key != "affine"}
        if moments:
            self._adam.state[self._affine] = _moved(moments, self._affine.device)


class AdaptiveExposure:
    """The exposure-adaptive colour transform (ACT); its network is saved with the map."""

    _LEARNING_RATE = 5e-4

    def __init__(self, device: torch.device, seed: int = 0) -> None:
        self.network = ExposureNetwork(seed).to(device)
        self._adam = torch.optim.Adam(self.network.parameters(), lr=self._LEARNING_RATE)

    def apply(self, index: int, rgb: Tensor, image: Tensor) -> Tensor:
        """The rendering [3, H, W] in the exposure of `image` [3, H, W]; `index` is not used."""
        histogram = luminance_histogram(image)
        self.network.observe(histogram)
        return self.network(histogram).apply(rgb)

    def step(self) -> None:
        """Step the network by its gradients."""
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        state = {f"network.{name}": value.detach() for name, value in self.network.state_dict().items()}
        for index, parameter in enumerate(self.network.parameters()):
            moments = self._adam.state.get(parameter, {})
            state |= {f"adam.{index}.{name}": value for name, value in moments.items()}
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        prefix = "network."
        self.network.load_state_dict(
            {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        )
        for index, parameter in enumerate(self.network.parameters()):
            prefix = f"adam.{index}."
            moments = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            if moments:
                self._adam.state[parameter] = _moved(moments, parameter.device)


ExposureModel = AffineExposure | AdaptiveExposure


def make_exposure(kind: str | None, count: int, device: torch.device, seed: int = 0) -> ExposureModel | None:
    """The exposure model called "affine" or "act" for `count` training images; None for none."""
    if kind is None:
        return None
    return AdaptiveExposure(device, seed) if kind == "act" else AffineExposure(count, device)


def _moved(moments: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Copies of Adam's moments on `device`; its step counter stays on the CPU."""
    return {
        name: value.clone() if name == "step" else value.to(device, copy=True)
        for name, value in moments.items()
    }
