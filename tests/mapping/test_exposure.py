"""Exposure that is learned per image."""

import torch

from gsplatloc.mapping.exposure import AdaptiveExposure, AffineExposure, ExposureModel, make_exposure

CPU = torch.device("cpu")


def fit(steps: int, seed: int = 0) -> tuple[AffineExposure, torch.Tensor]:
    """Two images of the same colours, one of them darker."""
    model = AffineExposure(2, CPU)
    image = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(seed))
    train(model, image, steps)
    return model, image


def train(model: AffineExposure, image: torch.Tensor, steps: int) -> None:
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
    other = AffineExposure(2, CPU)
    other.load_state({name: tensor.clone() for name, tensor in model.state().items()})
    train(model, image, 4)
    train(other, image, 4)
    assert torch.equal(model.state()["affine"], other.state()["affine"])


def adapt(model: AdaptiveExposure, steps: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Photos of one scene, darker and brighter than the map, in turn; returns the map's image and them."""
    scene = 0.2 + 0.6 * torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(0))
    photos = [gain * scene + bias for gain, bias in ((0.8, 0.0), (1.0, 0.0), (1.1, 0.02))]
    for step in range(steps):
        photo = photos[step % 3]
        (model.apply(step % 3, scene, photo) - photo).square().mean().backward()
        model.step()
    return scene, photos


def test_the_network_starts_as_the_identity() -> None:
    model = AdaptiveExposure(CPU)
    scene, photos = adapt(model, 0)
    assert torch.equal(model.apply(0, scene, photos[0]), scene)


def test_the_network_learns_a_photos_exposure_from_its_histogram() -> None:
    model = AdaptiveExposure(CPU)
    scene, photos = adapt(model, 900)
    for photo in (photos[0], photos[2]):
        before, after = scene - photo, model.apply(0, scene, photo) - photo
        assert after.abs().mean() < 0.35 * before.abs().mean()


def test_the_network_keeps_the_mean_histogram_as_it_is() -> None:
    model = AdaptiveExposure(CPU)
    adapt(model, 90)
    transform = model.network(model.network.mean_histogram)
    assert torch.allclose(transform.matrix, torch.eye(3), atol=1e-6)


def test_the_network_goes_on_from_its_state_bit_by_bit() -> None:
    model, other = AdaptiveExposure(CPU), AdaptiveExposure(CPU, seed=7)
    adapt(model, 6)
    other.load_state({name: tensor.clone() for name, tensor in model.state().items()})
    adapt(model, 5)
    adapt(other, 5)
    state = other.state()
    assert all(torch.equal(value, state[name]) for name, value in model.state().items())


def test_both_models_are_made_by_name() -> None:
    made: list[ExposureModel | None] = [make_exposure(kind, 3, CPU) for kind in ("act", "affine", None)]
    assert [type(model) for model in made] == [AdaptiveExposure, AffineExposure, type(None)]
