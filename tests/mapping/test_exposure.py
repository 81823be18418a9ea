"""Exposure that is learned per image."""

import torch

from mapping.exposure import ExposureModel

CPU = torch.device("cpu")


def fit(steps: int, seed: int = 0) -> tuple[ExposureModel, torch.Tensor]:
    """Two images of the same colours, one of them darker."""
    model = ExposureModel(2, CPU)
    image = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(seed))
    train(model, image, steps)
    return model, image


def train(model: ExposureModel, image: torch.Tensor, steps: int) -> None:
    for step in range(steps):
        gain = (0.9, 1.1)[step % 2]
        (model.apply(step % 2, image) - gain * image).square().mean().backward()
        model.step()


def test_it_starts_as_the_identity() -> None:
    model, image = fit(0)
    assert torch.equal(model.apply(1, image), image)


def test_it_learns_gains_around_their_mean() -> None:
    model, image = fit(800)
    assert torch.allclose(model.apply(0, image), 0.9 * image, atol=0.02)
    assert torch.allclose(model.apply(1, image), 1.1 * image, atol=0.02)
    mean = model.state()["affine"].mean(0)
    assert torch.allclose(mean, torch.eye(3, 4), atol=1e-5)


def test_it_goes_on_from_its_state_bit_by_bit() -> None:
    model, image = fit(6)
    other = ExposureModel(2, CPU)
    other.load_state({name: tensor.clone() for name, tensor in model.state().items()})
    train(model, image, 4)
    train(other, image, 4)
    assert torch.equal(model.state()["affine"], other.state()["affine"])
