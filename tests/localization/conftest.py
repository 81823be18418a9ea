"""Fixtures of the localization tests."""

import pytest

from tests.localization.world import World, make_world


@pytest.fixture
def world() -> World:
    return make_world()
