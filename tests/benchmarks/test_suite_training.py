"""What the iterations are that are timed."""

import pytest

from benchmarks.suite_training import KINDS, Kind, training_options


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label)
def test_iterations_of_one_kind_never_end(kind: Kind) -> None:
    options = training_options(kind)
    assert options.stopping.early_stop == 0 and options.schedule.holdout == 0
    assert (options.descriptors.descriptors == "distilled") == kind.features
