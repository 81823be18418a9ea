"""Which images are compared: neighbours by name, similar ones, and those that are not connected yet."""

import numpy as np
import torch
import torch.nn.functional as F

from gsplatloc.mapping.posing.pairs import first_pairs, second_pairs, similarities


def two_passes(places: int = 40) -> np.ndarray:
    """Similarities of two walks through the same places: image i and image i + `places` show the same."""
    draws = np.random.default_rng(0).normal(size=(places, 16))
    vectors = np.vstack([draws, draws + 0.1 * np.random.default_rng(1).normal(size=draws.shape)])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors @ vectors.T


def test_few_images_are_all_compared() -> None:
    assert len(first_pairs(np.eye(6))) == 15


def test_many_images_are_compared_with_neighbours_and_with_similar_ones() -> None:
    pairs = first_pairs(two_passes())
    assert all((i, i + 1) in pairs for i in range(79))
    assert all((i, i + 40) in pairs for i in range(40))  # the second walk meets the first
    assert len(pairs) < 80 * 79 / 4
    assert all(a < b for a, b in pairs) and len(set(pairs)) == len(pairs)


def test_an_image_without_verified_neighbours_is_compared_again() -> None:
    chain = [(i, i + step) for i in range(59) for step in (1, 2, 3) if i + step < 60]
    again = second_pairs(two_passes(), chain)  # 60 to 79 are connected with none
    assert {b for _, b in again} >= set(range(60, 80))
    assert all((i, i + 40) in again for i in range(20, 40))
    assert not set(again) & set(chain)


def test_images_with_enough_verified_neighbours_are_not_compared_again() -> None:
    everything = [(a, b) for a in range(80) for b in range(a + 1, 80)]
    assert second_pairs(two_passes(), everything) == []


def test_without_any_verified_pair_all_images_are_compared_again() -> None:
    assert {image for pair in second_pairs(np.eye(5), []) for image in pair} == set(range(5))


def test_images_with_the_same_content_are_most_similar() -> None:
    generator = torch.Generator().manual_seed(0)
    places = [F.normalize(torch.randn(8, 6, 7, generator=generator), dim=0) for _ in range(4)]
    similarity = similarities(lambda: iter([*places, *places]))
    np.fill_diagonal(similarity, -1)
    assert similarity.argmax(1).tolist() == [4, 5, 6, 7, 0, 1, 2, 3]
