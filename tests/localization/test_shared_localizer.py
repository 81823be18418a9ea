"""A localizer shared by threads and processes, in any order: results and memory stay the same."""

import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gsplatloc.localization.features import Features
from gsplatloc.localization.initial.given import GivenPose
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.refine import REFINERS, StageContext
from gsplatloc.utils import se3
from tests.localization.rendered_room import CAMERA, Room, make_room
from tests.localization.world import FakeExtractor

ROOT = Path(__file__).resolve().parents[2]
Answer = tuple[str, list[float], int, float | None]  # status, pose, inliers, verification score
COUNT = 8  # queries


def make_localizer(room: Room) -> Localizer:
    """Random samples (gscpr), rendering, alignment (lm) and verification, as `Localizer.load` puts them."""
    extractor = FakeExtractor(Features(room.query.keypoints, room.query.dense))
    context = StageContext(room.splat_map, extractor)
    refiners = [REFINERS.make(name, (), context) for name in ("gscpr", "lm")]
    return Localizer(GivenPose(), extractor, room.splat_map, refiners, verify=True)


def answer(localizer: Localizer, room: Room, number: int) -> Answer:
    """The answer to query `number`: the room's photo, from an initial pose of its own."""
    generator = torch.Generator().manual_seed(number)
    xi = 0.03 * torch.randn(6, generator=generator, dtype=torch.float64)
    found = localizer.localize(room.query.image, CAMERA, se3.se3_exp(xi) @ room.truth)
    final = found.final
    return found.status, final.pose().flatten().tolist(), final.inliers, found.score


def answer_in_a_process(number: int) -> Answer:
    torch.set_num_threads(1)
    room = make_room()
    return answer(make_localizer(room), room, number)


@pytest.fixture(scope="module")
def localizer(room: Room) -> Localizer:
    pytest.importorskip("gsplatloc_kernels")
    return make_localizer(room)


@pytest.fixture(scope="module")
def expected(localizer: Localizer, room: Room) -> list[Answer]:
    return [answer(localizer, room, number) for number in range(COUNT)]


def test_queries_differ(expected: list[Answer]) -> None:
    assert {status for status, *_ in expected} == {"ok", "unverified"}
    assert len({tuple(pose) for _, pose, *_ in expected}) == COUNT


def test_eight_threads_that_share_a_localizer_get_the_answers_of_one(
    localizer: Localizer, room: Room, expected: list[Answer]
) -> None:
    numbers = list(range(COUNT)) * 2
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: answer(localizer, room, number), numbers))
    assert found == expected * 2


def test_answers_do_not_depend_on_the_queries_before(
    localizer: Localizer, room: Room, expected: list[Answer]
) -> None:
    """Every random number is drawn from a generator of the query's own, not from global state."""
    torch.manual_seed(99)
    backwards = [answer(localizer, room, number) for number in reversed(range(COUNT))]
    assert backwards[::-1] == expected


def test_a_spawned_process_gets_the_same_answers(expected: list[Answer]) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        found = list(pool.map(answer_in_a_process, (0, 5)))
    assert found == [expected[0], expected[5]]


FORK = """
import os, numpy as np, torch
torch.set_num_threads(4)
from tests.localization.test_shared_localizer import *
room = make_room()
localizer = make_localizer(room)
before = answer(localizer, room, 0)
torch.rand(1 << 20).add(1).sum()  # on four threads, which the child will miss
child = os.fork()
status, pose, _, _ = answer(localizer, room, 0)
same = status == before[0] and np.allclose(pose, before[1], atol=1e-6)  # sums of one thread differ slightly
if child == 0:
    os._exit(not same)
raise SystemExit(os.waitpid(child, 0)[1] or not same)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="fork is safe nowhere else")
def test_a_forked_process_gets_the_same_answer() -> None:
    """The child has none of the threads of OpenMP and of torch, and would wait for them for ever."""
    done = subprocess.run([sys.executable, "-c", FORK], cwd=ROOT, timeout=300, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_stays_flat(room: Room) -> None:
    small = replace(room.query, image=room.query.image[::4, ::4].copy())
    camera, shrunk = CAMERA.resized(80, 60), replace(room, query=small)
    localizer = make_localizer(shrunk)
    sizes = []
    for number in range(100):
        localizer.localize(small.image, camera, room.truth)
        if number in (19, 99):
            sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
    assert sizes[1] - sizes[0] < 16 << 20
