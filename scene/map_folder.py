"""Where a folder is no map: told before the modules that read maps are loaded."""

from pathlib import Path

from gsplatloc.utils.errors import GSplatLocError


def config_path(map_dir: Path | str) -> Path:
    """The file in a map's folder that says how it was made."""
    return Path(map_dir) / "config.json"


def require_map(map_dir: Path | str) -> None:
    """Raise `GSplatLocError` if the folder holds no map."""
    if not config_path(map_dir).is_file():
        raise GSplatLocError(f"expected a map in {map_dir}, found no config.json: run gsplatloc train")
