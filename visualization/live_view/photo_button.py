"""Localize a photo from the browser: a button that takes a file, and the pose in the list of queries."""

import re
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gsplatloc.localization.io.json_lines import localized_query
from gsplatloc.localization.io.results import localize_query
from gsplatloc.localization.localizer import Localizer
from gsplatloc.localization.queries import queries_in_folder
from gsplatloc.utils.errors import GSplatLocError, quoted
from gsplatloc.utils.io import output_path
from gsplatloc.visualization.live_view.query_panel import QueryPanel

_MOST_BYTES = 200_000_000
_ENDING = re.compile(r"\.[A-Za-z0-9]{1,5}$")


class PhotoButton:
    """Localizes uploaded files, one after the other; each is kept until the view is closed."""

    def __init__(self, server: Any, load_localizer: Callable[[], Localizer], panel: QueryPanel) -> None:
        """`load_localizer` is called for the first photo: a map is viewed faster than it is loaded."""
        self._load, self._panel = load_localizer, panel
        self._localizer: Localizer | None = None
        self._lock = threading.Lock()
        self._folder = TemporaryDirectory(prefix="gsplatloc-")
        self._button = server.gui.add_upload_button("localize a photo", mime_type="image/*")
        self._text = server.gui.add_markdown("")
        self._button.on_upload(lambda _: self.localize(self._button.value.name, self._button.value.content))

    def localize(self, name: str, content: bytes) -> None:
        """Localize the image whose file is `content`; the text under the button states the result."""
        with self._lock:
            self._text.content = f"localizing {quoted(name)} …"
            try:
                self._text.content = self._localized(name, content)
            except GSplatLocError as error:
                self._text.content = f"{quoted(name)}: {error}"

    def close(self) -> None:
        """Remove the photos."""
        self._folder.cleanup()

    @property
    def text(self) -> str:
        return str(self._text.content)

    def _localized(self, name: str, content: bytes) -> str:
        if len(content) > _MOST_BYTES:
            raise GSplatLocError(
                f"expected an image of at most {_MOST_BYTES // 1_000_000} MB: make it smaller"
            )
        folder = Path(self._folder.name)
        ending = _ENDING.search(name)
        path = output_path(folder, Path(name).name, ending[0] if ending else "")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        (image,) = queries_in_folder(path)
        self._localizer = self._localizer or self._load()
        result = localize_query(self._localizer, image)
        query = localized_query(result)
        if query is None:
            return (
                f"{quoted(name)}: {result.localization.status}: {result.reason or result.localization.advice}"
            )
        self._panel.add(query)
        return f"{quoted(name)}: {query.status}, {result.localization.total_ms:.0f} ms"
