"""A refinement of your own in the localizer: what GSPLATLOC_PLUGINS does for the command line."""

from pathlib import Path

import gsplatloc
from gsplatloc.localization.evaluation import pose_error
from gsplatloc.localization.options import LocalizerOptions
from gsplatloc.localization.refine import REFINERS
from gsplatloc.utils.registry import import_plugin

OUTPUT = Path("output/examples")
PLUGIN = Path(__file__).resolve().parent / "plugins" / "flow.py"


def main(output: Path = OUTPUT) -> None:
    import_plugin(str(PLUGIN))  # the file registers the refiner "flow"
    chosen = REFINERS["flow"].options(corners=500)
    options = LocalizerOptions(stages=("flow",), settings=(chosen,))
    localizer = gsplatloc.Localizer.load(output / "map", options)
    view = gsplatloc.read_scene(output / "room").test[0]
    for name, estimate in localizer.localize(view.load_image(), view.camera).stages.items():
        error = pose_error(estimate.cam_from_world, view.cam_from_world)
        print(f"{name:8} {100 * error.translation_m:.2f} cm, {error.rotation_deg:.3f} degrees")


if __name__ == "__main__":
    main()
