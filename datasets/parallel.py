"""Doing the same to many files with every core: decoding and resampling leave Python's lock alone."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gsplatloc.utils.console import progress

Item = TypeVar("Item")
Result = TypeVar("Result")


def for_each(function: Callable[[Item], Result], items: Sequence[Item], label: str) -> list[Result]:
    """`function` of every item, in order, with a progress bar; the first exception ends it."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return list(progress(pool.map(function, items), total=len(items), desc=label))
