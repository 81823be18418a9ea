"""A server with archives of upstream's structure, and the command in processes that can be killed."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash.support import Ended, run
from tests.datasets.conftest import Mirror, serving
from tests.reproduction.archives import cambridge, room_images, seven_scenes

Command = Callable[..., Ended]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on tensors this small only wait for each other."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OMP_NUM_THREADS", "1")
        environment.delenv("GSPLATLOC_MIRROR", raising=False)
        yield


@pytest.fixture(scope="session")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirror]:
    """Chess and fire of 7-Scenes, and ShopFacade of Cambridge, as upstream serves them."""
    folder = tmp_path_factory.mktemp("upstream")
    served = Mirror(folder / "mirror")
    for seed, scene in ((1, "chess"), (2, "fire")):
        images, focal = room_images(folder / scene, seed)
        for path, content in seven_scenes(images, focal, scene).items():
            served.put(path, content)
    for path, content in cambridge(images, focal, "ShopFacade", "251336").items():
        served.put(path, content)
    with serving(served):
        yield served


@pytest.fixture(scope="session")
def reproduce(upstream: Mirror) -> Command:
    """Runs `gsplatloc reproduce TABLE WORDS` with data and output in a folder."""

    def command(folder: Path, table: str, *words: str | Path, **ending: float) -> Ended:
        folder.mkdir(exist_ok=True)
        arguments = ["reproduce", table, "--data", folder / "data", "-o", folder / "out"]
        arguments += ["--mirror", upstream.address, "--yes", *words]
        return run(arguments, folder / f"log-{len(os.listdir(folder))}", **ending)  # type: ignore[arg-type]

    return command
