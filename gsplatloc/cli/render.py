"""Render a map: `gsplatloc render -m OUT [--split path|train|test]`."""

from gsplatloc.arguments.render import RenderArguments, parse_render_arguments
from gsplatloc.gaussian_renderer.device import rendering_device
from gsplatloc.scene.cameras import PosedCamera
from gsplatloc.scene.export import load_gaussians
from gsplatloc.scene.map_config import map_frame, read_cameras
from gsplatloc.utils.console import log
from gsplatloc.utils.locks import output_folder
from gsplatloc.visualization.rendering import ImageOptions, render_images, write_images
from gsplatloc.visualization.trajectory import cameras_of_poses, smooth_path, test_cameras


def main(arguments: RenderArguments | None = None) -> None:
    """Run the command; without `arguments` they are those of `sys.argv`."""
    arguments = arguments or parse_render_arguments()
    device = rendering_device(arguments.device)
    gaussians = load_gaussians(arguments.model_path, arguments.iteration).to(device)
    cameras = find_cameras(arguments)
    options = ImageOptions(arguments.depth, arguments.features, arguments.video, arguments.fps)
    folder = arguments.folder()
    with output_folder(folder):
        write_images(folder, render_images(gaussians, cameras, options), len(cameras), options)
    log(f"{len(cameras)} cameras in {folder}")


def find_cameras(arguments: RenderArguments) -> list[PosedCamera]:
    """The cameras that the arguments choose."""
    if arguments.split == "test" and arguments.poses is None:
        return test_cameras(arguments.model_path)
    training = read_cameras(arguments.model_path)
    if arguments.poses is not None:
        return cameras_of_poses(arguments.poses, training[0].camera, map_frame(arguments.model_path))
    return training if arguments.split == "train" else smooth_path(training, arguments.frames)
