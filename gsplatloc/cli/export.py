"""Write a map's Gaussians for other programs: `gsplatloc export -m OUT --format spz`."""

from gsplatloc.arguments.export import parse_export_arguments
from gsplatloc.scene.export import find_ply
from gsplatloc.scene.formats import SPLAT_FORMATS, read_splat, write_splat
from gsplatloc.utils.console import log


def main() -> None:
    arguments = parse_export_arguments()
    name, path = arguments.format_name(), arguments.path()
    gaussians = read_splat(find_ply(arguments.model_path, arguments.iteration))
    kept = arguments.filter.apply(gaussians)
    write_splat(path, kept, name)
    size = path.stat().st_size / 1e6
    log(f"{path}: {len(kept)} of {len(gaussians)} Gaussians, {size:.1f} MB")
    changes = SPLAT_FORMATS[name].make().changes
    log(f"{name}: {changes}" if changes else "")
