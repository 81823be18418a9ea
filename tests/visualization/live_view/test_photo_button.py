"""A photo that somebody uploads: localized, and then one of the queries; or a line that says why not."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from gsplatloc.localization.io.json_lines import LocalizedQuery
from gsplatloc.localization.result import Localization, PoseEstimate, Status
from gsplatloc.scene.cameras import Camera
from gsplatloc.visualization.live_view.photo_button import PhotoButton

CAMERA = Camera(64, 48, 60, 60, 32, 24)


@dataclass
class Panel:
    added: list[LocalizedQuery] = field(default_factory=list)

    def add(self, query: LocalizedQuery) -> None:
        self.added.append(query)


@dataclass
class FixedLocalizer:
    """Returns one result for every image."""

    result: Localization
    images: list[np.ndarray] = field(default_factory=list)

    def localize(self, image: np.ndarray, camera: object, given: object) -> Localization:
        self.images.append(image)
        return self.result


def png(value: int) -> bytes:
    return cv2.imencode(".png", np.full((48, 64, 3), value, np.uint8))[1].tobytes()


def test_a_localized_photo_joins_the_queries_with_its_stages(server: Any) -> None:
    pose = torch.eye(4, dtype=torch.float64)
    localizer = FixedLocalizer(Localization({"initial": PoseEstimate(Status.OK, CAMERA, pose)}))
    loaded: list[int] = []
    panel = Panel()
    button = PhotoButton(server, lambda: loaded.append(1) or localizer, panel)  # type: ignore[arg-type, func-returns-value, return-value]
    assert not loaded  # the map is loaded for the first photo
    button.localize("../../photo.png", png(77))
    button.localize("other.png", png(78))
    assert [query.name for query in panel.added] == ["photo.png", "other.png"] and loaded == [1]
    assert (localizer.images[0] == 77).all() and list(panel.added[0].stages) == ["initial"]
    image = panel.added[0].image
    assert image is not None and image.parent == Path(button._folder.name)  # whatever the name
    assert "ok" in button.text
    button.close()
    assert not image.exists()


def test_a_photo_that_fails_or_is_none_is_explained(server: Any) -> None:
    localizer = FixedLocalizer(Localization({"initial": PoseEstimate(Status.NO_CONSENSUS, CAMERA)}))
    panel = Panel()
    button = PhotoButton(server, lambda: localizer, panel)  # type: ignore[arg-type, return-value]
    button.localize("elsewhere.png", png(1))
    assert "no_consensus" in button.text and "agree on no pose" in button.text
    button.localize("notes.png", b"no image")
    assert "notes.png" in button.text and "expected" in button.text
    assert not panel.added
    button.close()
