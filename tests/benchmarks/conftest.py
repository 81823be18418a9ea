"""A map that benchmarks can run on in seconds."""

from pathlib import Path

import pytest

from gsplatloc.arguments.training import parse_train_arguments
from gsplatloc.mapping.train import train
from gsplatloc.scene import read_scene

_FLAGS = (
    "--preset cpu --iterations 40 --init_max_points 6000 --densification none --descriptor_steps 1 --quiet"
)


@pytest.fixture(scope="session")
def room_map(room_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rough map of the part of the synthetic room."""
    folder = tmp_path_factory.mktemp("maps") / "room"
    arguments = parse_train_arguments([*_FLAGS.split(), "-s", str(room_scene), "-m", str(folder)])
    scene = read_scene(arguments.scene.source_path, arguments.scene.options())
    train(scene, folder, arguments.mapping(), arguments.config())
    return folder


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """A root of documentation with the marks of every table."""
    names = (
        "accuracy",
        "hard",
        "convergence",
        "pose_refinement",
        "exposure",
        "rgbd",
        "splats",
        "photos",
        "rough_poses",
        "building",
        "cluster",
        "busy",
        "suite",
    )
    text = "\n".join(f"<!-- {name}: begin -->\n<!-- {name}: end -->" for name in names)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text(f"before\n{text}\nafter\n")
    return tmp_path
