"""Where the scenes of a public data set are found below a folder, and how they are downloaded and checked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gsplatloc.datasets.command import SetupOptions
from gsplatloc.datasets.options import MARKER, SevenScenesPoses
from gsplatloc.datasets.upstream import (
    CAMBRIDGE,
    CAMBRIDGE_ARCHIVES,
    PSEUDO_GROUND_TRUTH,
    SEVEN_SCENES,
    TWELVE_SCENES,
    Source,
)
from gsplatloc.scene.readers import has_known_layout
from gsplatloc.utils.errors import GSplatLocError, quoted
from gsplatloc.utils.io import read_json

Setup = Callable[[SetupOptions, str], Path]


@dataclass(frozen=True)
class Archive:
    """A file that a scene is made of."""

    source: Source
    path: str  # at the source
    name: str  # of the downloaded file, below .downloads/KEY

    def local(self, options: SetupOptions) -> Path:
        return options.archive_path(self.source, self.name)

    def address(self, options: SetupOptions) -> str:
        return self.source.address(self.path, options.mirror_address)


@dataclass(frozen=True)
class DataSet:
    """A data set and its scenes."""

    folders: tuple[str, ...]  # where a scene may be below the data folder, `{scene}` for its name
    settings: Mapping[str, str] = field(default_factory=dict)  # that setup.json of a scene must have
    setup: Setup | None = None  # downloads a scene and lays it out; None: a person has to
    archive: Callable[[str], Archive] | None = None
    sources: tuple[Source, ...] = ()
    address: str = ""  # where a person downloads it
    images: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # (train, test) as published

    def find(self, data: Path, scene: str) -> Path | None:
        """The folder of a scene that is there; None if there is none, an error if it was made otherwise."""
        for pattern in self.folders:
            folder = data / pattern.format(scene=scene)
            if has_known_layout(folder):
                self._check(folder)
                return folder
        return None

    def _check(self, folder: Path) -> None:
        """Raise `GSplatLocError` for a scene that a set-up command made with other poses."""
        if not (folder / MARKER).is_file():
            return
        found, wanted = read_json(folder / MARKER), dict(self.settings)
        if not isinstance(found, dict) or any(found.get(key) != value for key, value in wanted.items()):
            raise GSplatLocError(
                f"expected {folder} to be made with {wanted}, found {quoted(found)}: move it away, or pass"
                " another --data"
            )

    def prepare(self, options: SetupOptions, scene: str) -> Path:
        """The folder of a scene, which is laid out from archives that are there or downloaded if need be."""
        found = self.find(options.output, scene)
        if found is not None:
            return found
        if self.setup is None or self.archive is None:
            folder = options.output / self.folders[0].format(scene=scene)
            raise GSplatLocError(f"expected {scene} at {folder}, found none: unpack it there; {self.address}")
        self._adopt(options, self.archive(scene))
        return self.setup(options, scene)

    def archive_of(self, options: SetupOptions, scene: str) -> Path | None:
        """Upstream's archive in the data folder, which we or a person downloaded; None if there is none."""
        if self.archive is None:
            return None
        archive = self.archive(scene)
        places = (archive.local(options), options.output / archive.name)
        return next((place for place in places if place.is_file()), None)

    def _adopt(self, options: SetupOptions, archive: Archive) -> None:
        """Let the set-up code use an archive that a person put into the data folder."""
        given, local = options.output / archive.name, archive.local(options)
        if given.is_file() and not local.exists():
            local.parent.mkdir(parents=True, exist_ok=True)
            local.symlink_to(given.resolve())


# The set-up code loads OpenCV and torch: it is imported when a scene is laid out.
def _set_up_seven_scenes(poses: SevenScenesPoses, options: SetupOptions, scene: str) -> Path:
    from gsplatloc.datasets.seven_scenes import setup_scene

    return setup_scene(options, scene, poses, "none")


def _set_up_twelve_scenes(options: SetupOptions, scene: str) -> Path:
    from gsplatloc.datasets.twelve_scenes import setup_scene

    return setup_scene(options, scene, "pgt")


def _set_up_cambridge(options: SetupOptions, scene: str) -> Path:
    from gsplatloc.datasets.cambridge import setup_scene

    return setup_scene(options, scene)  # type: ignore[arg-type]


def _seven_scenes(poses: SevenScenesPoses, prefix: str) -> DataSet:
    return DataSet(
        (prefix + "7scenes_{scene}",),
        {"poses": poses},
        partial(_set_up_seven_scenes, poses),
        lambda scene: Archive(SEVEN_SCENES, f"{scene}.zip", f"{scene}.zip"),
        (SEVEN_SCENES, PSEUDO_GROUND_TRUTH),
        images={
            "chess": (4000, 2000), "fire": (2000, 2000), "heads": (1000, 1000), "office": (6000, 4000),
            "pumpkin": (4000, 2000), "redkitchen": (7000, 5000), "stairs": (2000, 1000),
        },
    )  # fmt: skip


def _twelve_scenes_archive(scene: str) -> Archive:
    name = f"{scene.split('_')[0]}.zip"  # of a building, with all its rooms
    return Archive(TWELVE_SCENES, name, name)


SEVEN_SCENES_PGT = _seven_scenes("pgt", "pgt_")
SEVEN_SCENES_ORIGINAL = _seven_scenes("calibrated", "")
TWELVE_SCENES_PGT = DataSet(
    ("pgt_12scenes_{scene}",),
    {"poses": "pgt"},
    _set_up_twelve_scenes,
    _twelve_scenes_archive,
    (TWELVE_SCENES, PSEUDO_GROUND_TRUTH),
)
CAMBRIDGE_LANDMARKS = DataSet(
    ("Cambridge_{scene}",),
    {},
    _set_up_cambridge,
    lambda scene: Archive(CAMBRIDGE, CAMBRIDGE_ARCHIVES[scene], f"{scene}.zip"),  # type: ignore[index]
    (CAMBRIDGE,),
    images={
        "KingsCollege": (1220, 343), "OldHospital": (895, 182), "ShopFacade": (231, 103),
        "StMarysChurch": (1487, 530), "GreatCourt": (1532, 760),
    },
)  # fmt: skip
REPLICA = DataSet(
    ("Replica/{scene}", "replica/{scene}", "{scene}"),
    address="it is in Replica.zip of NICE-SLAM (run scripts/download_replica.sh of that repository)",
    images={name: (2000, 0) for name in ("room0", "room1", "room2", *(f"office{i}" for i in range(5)))},
)
TUM_RGBD = DataSet(
    ("rgbd_dataset_{scene}", "tum/rgbd_dataset_{scene}", "{scene}"),
    address="https://cvg.cit.tum.de/data/datasets/rgbd-dataset/download has rgbd_dataset_{scene}.tgz",
)

TUM_NAMES = ("freiburg1_desk", "freiburg2_xyz", "freiburg3_long_office_household")
