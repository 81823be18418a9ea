"""From a map and a photo to the camera's pose, stage by stage, with an error estimate of its own."""

from pathlib import Path

from gsplatloc.localization.evaluation import pose_error
from gsplatloc.localization.localizer import Localizer
from gsplatloc.scene import read_scene

OUTPUT = Path("output/examples")


def main(output: Path = OUTPUT) -> None:
    localizer = Localizer.load(output / "map")  # reads the map; no training image is touched
    view = read_scene(output / "room").test[0]  # a photo whose true pose is known
    result = localizer.localize(view.load_image(), view.camera)
    for name, estimate in result.stages.items():
        error = pose_error(estimate.cam_from_world, view.cam_from_world)
        errors = f"{100 * error.translation_m:.2f} cm, {error.rotation_deg:.3f} degrees"
        print(
            f"{name:6} {estimate.status}: {errors}, {estimate.inliers} inliers, {estimate.elapsed_ms:.0f} ms"
        )

    # A phone's photo without calibration: leave the camera out and its focal length is estimated.
    guessed = localizer.localize(view.load_image()).final
    print(f"focal length: {guessed.camera.fx:.1f} px estimated, {view.camera.fx:.1f} px true")


if __name__ == "__main__":
    main()
