"""The benchmark of nodes of Ray: its table, and a job that fails."""

from concurrent.futures import Future
from pathlib import Path

import pytest

from benchmarks import cluster
from gsplatloc.reproduction.workers import Job
from gsplatloc.utils.errors import GSplatLocError


def test_factors_are_relative_to_the_fewest_nodes(pages: Path) -> None:
    common = {"scenes": 4, "queries": 400, "good": 399, "commit": "abc", "machine": "2 threads"}
    rows = [
        {"nodes": 2, "mapping_s": 50.0, "queries_s": 20.0, **common},
        {"nodes": 1, "mapping_s": 95.0, "queries_s": 39.0, **common},
    ]
    cluster.publish_cluster(rows, pages)
    text = (pages / "docs" / "page.md").read_text()
    assert "| 1 | 95.0 s (1.00 ×) | 39.0 s (1.00 ×) | 399 of 400 |" in text
    assert "| 2 | 50.0 s (1.90 ×) | 20.0 s (1.95 ×) | 399 of 400 |" in text


class Failing:
    """Workers whose jobs end with 1."""

    def submit(self, job: Job) -> Future[int]:
        job.log.write_text("error: no images\n")
        future: Future[int] = Future()
        future.set_result(1)
        return future


def test_a_job_that_failed_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(GSplatLocError, match="no images"):
        cluster.run(Failing(), [Job(("-c", ""), tmp_path / "job.log")])  # type: ignore[arg-type]
