"""Fixtures of the localization tests."""

import pytest

from tests.localization.rendered_room import Room, make_room
from tests.localization.world import World, make_world


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture(scope="session")
def room() -> Room:
    return make_room()
