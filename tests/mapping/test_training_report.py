"""The summary of a run: what was made, and how much of the folder is cache."""

from pathlib import Path

from gsplatloc.mapping.train import TrainingReport


def test_the_summary_states_the_size_of_the_cache_if_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(bytes(3_000_000))
    report = TrainingReport(3, True, {"features": 1.0}, 10, None, 5, {"point_cloud.ply": 10}, tmp_path)
    assert report.lines()[-1] == f"cache      3 MB of features in {tmp_path}, which may be deleted"
    report = TrainingReport(3, True, {"features": 1.0}, 10, None, 5, cache=tmp_path / "none")
    assert len(report.lines()) == 2
