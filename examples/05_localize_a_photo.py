"""From a map and a query image to the camera pose: what each stage returns, and the error that it expects."""

from pathlib import Path

import gsplatloc
from gsplatloc.localization.evaluation import pose_error

OUTPUT = Path("output/examples")


def main(output: Path = OUTPUT) -> None:
    localizer = gsplatloc.Localizer.load(output / "map")  # reads the map, and no training image
    view = gsplatloc.read_scene(output / "room").test[0]  # an image whose true pose is known
    result = localizer.localize(view.load_image(), view.camera)
    for name, estimate in result.stages.items():
        error = pose_error(estimate.cam_from_world, view.cam_from_world)
        found = f"{100 * error.translation_m:.2f} cm, {error.rotation_deg:.3f} degrees"
        print(f"{name:8} {estimate.status}: {found}, {estimate.inliers} inliers", end="")
        print(f", expected error {100 * (estimate.expected_translation_m or float('nan')):.2f} cm")

    # A photo without calibration: leave the camera out, and its focal length is estimated.
    guessed = localizer.localize(view.load_image()).final
    print(f"focal length: {guessed.camera.fx:.1f} px estimated, {view.camera.fx:.1f} px true")


if __name__ == "__main__":
    main()
