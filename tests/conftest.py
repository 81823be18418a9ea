"""Fixtures that every test folder may use."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets, or a skip that says how to get it."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("GSPLATLOC_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set GSPLATLOC_DATA to a folder that holds it")
    return folder
