"""Addresses of the public data sets, and of their files on a mirror."""

from dataclasses import dataclass
from typing import Literal, get_args


@dataclass(frozen=True)
class Source:
    """A family of files under one address."""

    key: str  # folder of these files on a mirror
    base: str  # address upstream, without a trailing slash
    terms: str  # where the licence is to be read

    def address(self, path: str, mirror: str | None = None) -> str:
        """The address of `path`, upstream or in the source's folder on the mirror."""
        return f"{mirror.rstrip('/')}/{self.key}/{path}" if mirror else f"{self.base}/{path}"


SEVEN_SCENES = Source(
    "7scenes",
    "https://download.microsoft.com/download/2/8/5/28564B23-0828-408F-8631-23B1EFF1DAC8",
    "https://www.microsoft.com/en-us/research/project/rgb-d-dataset-7-scenes/",
)
TWELVE_SCENES = Source(
    "12scenes",
    "https://graphics.stanford.edu/projects/reloc/data",
    "https://graphics.stanford.edu/projects/reloc/",
)
CAMBRIDGE = Source(
    "cambridge",
    "https://www.repository.cam.ac.uk/bitstream/handle/1810",
    "https://www.repository.cam.ac.uk/handle/1810/251342",
)
PSEUDO_GROUND_TRUTH = Source(
    "pgt",
    "https://raw.githubusercontent.com/tsattler/visloc_pseudo_gt_limitations/main/pgt",
    "https://github.com/tsattler/visloc_pseudo_gt_limitations",
)
# On Google Drive, where files have an id instead of an address; an ordinary file on a mirror.
REFERENCE_MODELS = Source("7scenes_models", "https://drive.google.com/uc?id=", PSEUDO_GROUND_TRUTH.terms)
REFERENCE_MODELS_ID = "1ATijcGCgK84NKB4Mho4_T-P7x8LSL80m"
REFERENCE_MODELS_FILE = "7scenes_reference_models.zip"

SevenScenesName = Literal["chess", "fire", "heads", "office", "pumpkin", "redkitchen", "stairs"]
TwelveScenesName = Literal[
    "apt1_kitchen", "apt1_living",
    "apt2_bed", "apt2_kitchen", "apt2_living", "apt2_luke",
    "office1_gates362", "office1_gates381", "office1_lounge", "office1_manolis",
    "office2_5a", "office2_5b",
]  # fmt: skip
CambridgeName = Literal["KingsCollege", "OldHospital", "ShopFacade", "StMarysChurch", "GreatCourt"]

SEVEN_SCENES_NAMES: tuple[SevenScenesName, ...] = get_args(SevenScenesName)
TWELVE_SCENES_NAMES: tuple[TwelveScenesName, ...] = get_args(TwelveScenesName)
CAMBRIDGE_NAMES: tuple[CambridgeName, ...] = get_args(CambridgeName)
CAMBRIDGE_ARCHIVES: dict[CambridgeName, str] = {
    "KingsCollege": "251342/KingsCollege.zip",
    "OldHospital": "251340/OldHospital.zip",
    "ShopFacade": "251336/ShopFacade.zip",
    "StMarysChurch": "251294/StMarysChurch.zip",
    "GreatCourt": "251291/GreatCourt.zip",
}
