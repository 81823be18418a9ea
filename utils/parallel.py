"""Process many files in threads: decoding and resampling of images release Python's global lock."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gsplatloc.utils.console import progress

Item = TypeVar("Item")
Result = TypeVar("Result")


def for_each(
    function: Callable[[Item], Result], items: Sequence[Item], label: str, quiet: bool = False
) -> list[Result]:
    """The results of `function` for every item, in order, with a progress bar. Exceptions are re-raised."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return list(progress(pool.map(function, items), total=len(items), desc=label, quiet=quiet))
