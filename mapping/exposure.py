"""Per-image exposure: an affine map of colours, learned beside the map, which need not explain it then."""

import torch
from torch import Tensor


class ExposureModel:
    """rgb' = A rgb + b for every training image, identity at first.

    All images could brighten while the map darkens: the mean of the offsets from the identity is taken out
    after every step, which pins the map to the images' mean exposure.
    """

    _LEARNING_RATE = 1e-3

    def __init__(self, count: int, device: torch.device) -> None:
        identity = torch.eye(3, 4, device=device)
        self._identity = identity
        self._affine = identity.repeat(count, 1, 1).requires_grad_()  # [V, 3, 4]
        self._adam = torch.optim.Adam([self._affine], lr=self._LEARNING_RATE)

    def apply(self, index: int, rgb: Tensor) -> Tensor:
        """The image [3, H, W] as the camera of view `index` would have exposed it."""
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
        # Adam counts its steps on the CPU, wherever the parameters are.
        moments = {
            key: value.clone() if key == "step" else value.to(self._affine.device, copy=True)
            for key, value in state.items()
            if key != "affine"
        }
        if moments:
            self._adam.state[self._affine] = moments
