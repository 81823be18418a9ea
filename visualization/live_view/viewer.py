"""View of a map in the browser, during or after training. Needs viser, which is optional."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gsplatloc.localization.io.json_lines import LocalizedQuery
from gsplatloc.localization.landmarks.file import Landmarks
from gsplatloc.localization.localizer import Localizer
from gsplatloc.scene.cameras import PosedCamera, View
from gsplatloc.scene.gaussians import Gaussians
from gsplatloc.scene.harmonics import Y_00
from gsplatloc.scene.map_frame import MapFrame
from gsplatloc.utils import se3
from gsplatloc.utils.console import log
from gsplatloc.visualization.images import RGB
from gsplatloc.visualization.live_view.layers import add_frustum_box, add_landmarks, add_trajectory
from gsplatloc.visualization.live_view.photo_button import PhotoButton
from gsplatloc.visualization.live_view.query_panel import Draw, QueryPanel, markdown_rows
from gsplatloc.visualization.live_view.query_shapes import field_of_view
from gsplatloc.visualization.live_view.rendered_view import RenderedView
from gsplatloc.visualization.live_view.server import start_server
from gsplatloc.visualization.plan import up_direction

_MIN_INTERVAL = 2.0  # seconds between two uploads: 100,000 Gaussians are 3 MB
_MAX_GAUSSIANS = 500_000  # maximum uploaded; those of least opacity are left out
_MAX_FRUSTUMS = 300
_FRUSTUM_SHARE = 0.02  # of the cameras' extent, the size of a frustum
_BEHIND, _ABOVE = 5.0, 1.5  # sizes of a frustum: where the view starts, relative to the first camera


class LiveViewer:
    """Serves a map at http://ip:port from a background thread; it never waits for a browser.

    >>> viewer = LiveViewer("127.0.0.1", 8080)
    >>> viewer.update(gaussians, iteration=100, stats={"psnr": 21.3})
    >>> viewer.close()
    """

    def __init__(
        self,
        ip: str,
        port: int,
        cameras: Sequence[View | PosedCamera] = (),
        allowed_hosts: Sequence[str] = (),
    ) -> None:
        """`cameras` are drawn as frustums; address and hosts: see `start_server`, also for its errors."""
        self._server = start_server(ip, port, allowed_hosts)
        self.port: int = self._server.get_port()  # the next free one if `port` is in use
        self._status = self._server.gui.add_markdown("waiting for the map")
        self._scale = 1.0  # size of a frustum
        self._splats: Any = None
        self._closing: list[Callable[[], None]] = []
        self.shown = 0  # number of Gaussians uploaded
        self._next_update = 0.0
        if cameras:
            self.show_cameras(cameras)
        log(f"live view  http://{ip}:{self.port}")

    def update(self, gaussians: Gaussians, iteration: int, stats: Mapping[str, float]) -> None:
        """Show the map; a call within two seconds of the last upload is ignored."""
        if time.monotonic() < self._next_update:
            return
        self.show(gaussians)
        rows = {"iteration": f"{iteration:,}", "Gaussians": f"{len(gaussians):,}"}
        rows |= {name: f"{value:.4g}" for name, value in stats.items()}
        self._status.content = markdown_rows(rows)
        self._next_update = time.monotonic() + _MIN_INTERVAL

    def show(self, gaussians: Gaussians) -> None:
        """Upload the map now."""
        arrays = splat_arrays(gaussians)
        self.shown = len(arrays["centers"])
        if self._splats is None:
            self._splats = self._server.scene.add_gaussian_splats("/map", **arrays)
        else:
            self._splats.set_gaussians(**arrays)

    def show_pictures(self, draw: Draw, kinds: Sequence[str]) -> None:
        """Let people choose that the map is rendered here, in one of `kinds`, instead of by the browser."""

        def show_splats(visible: bool) -> None:
            if self._splats is not None:
                self._splats.visible = visible

        self._closing.append(RenderedView(self._server, draw, kinds, show_splats).close)

    def show_queries(
        self,
        queries: Sequence[LocalizedQuery],
        draw: Draw,
        kinds: Sequence[str],
        frame: MapFrame,
        metric: bool = True,
    ) -> QueryPanel:
        """Draw localized queries; `frame` is the map's coordinates in the scene, in which the poses are.

        Their photos are compared with the map as `draw` renders it in one of `kinds`. `metric`: whether
        lengths are in metres.
        """
        return QueryPanel(self._server, queries, draw, kinds, frame, 1.5 * self._scale, metric)

    def accept_photos(self, load_localizer: Callable[[], Localizer], panel: QueryPanel) -> PhotoButton:
        """Add a button that localizes a photo, which then is one of the panel's queries."""
        button = PhotoButton(self._server, load_localizer, panel)
        self._closing.append(button.close)
        return button

    def show_landmarks(self, landmarks: Landmarks) -> None:
        """Landmarks as points, with a box to show them."""
        add_landmarks(self._server, landmarks, self._scale)

    def show_trajectory(self, name: str, cam_from_map: Tensor, color: RGB) -> None:
        """The path of a camera, poses [N, 4, 4] in the map, with a box to hide it."""
        add_trajectory(self._server, name, cam_from_map, color)

    @property
    def status(self) -> str:
        """The table beside the map, as Markdown."""
        return str(self._status.content)

    def close(self) -> None:
        """Stop serving."""
        for close in self._closing:
            close()
        self._server.stop()

    def show_cameras(self, cameras: Sequence[View | PosedCamera]) -> None:
        """Draw frustums, set the up direction, and start a little behind the first camera, which is seen."""
        poses = torch.stack([camera.cam_from_world for camera in cameras])
        centers, up = se3.camera_center(poses), up_direction(poses)
        self._server.scene.set_up_direction(tuple(up.tolist()))
        extent = (centers - centers.mean(0)).norm(dim=1).max().item()
        self._scale = scale = _FRUSTUM_SHARE * (extent or 1.0)
        step = math.ceil(len(cameras) / _MAX_FRUSTUMS)
        frustums = [self._frustum(camera, scale) for camera in cameras[::step]]
        add_frustum_box(self._server, frustums)
        first = se3.inverse(poses[0])
        start = self._server.initial_camera
        behind = first[:3, :3] @ first.new_tensor([0.0, -_ABOVE * scale, -_BEHIND * scale])
        start.position = tuple((first[:3, 3] + behind).tolist())
        start.look_at = tuple((first[:3, 3] + (extent or 1.0) * first[:3, 2]).tolist())

    def _frustum(self, camera: View | PosedCamera, scale: float) -> Any:
        world_from_cam = se3.inverse(camera.cam_from_world)
        pinhole = camera.camera
        handle = self._server.scene.add_camera_frustum(
            f"/cameras/{camera.name}",
            fov=field_of_view(pinhole),
            aspect=pinhole.width / pinhole.height,
            scale=scale,
            thickness=1.5,
            thickness_units="screen",
            color=(47, 129, 247),
            wxyz=tuple(se3.quaternion_from_rotation(world_from_cam[:3, :3]).tolist()),
            position=tuple(world_from_cam[:3, 3].tolist()),
        )

        @handle.on_click
        def _(event: Any) -> None:
            event.client.camera.position = handle.position
            event.client.camera.wxyz = handle.wxyz

        return handle


@torch.no_grad()
def splat_arrays(gaussians: Gaussians) -> dict[str, np.ndarray]:
    """viser's arrays: centres, covariances, colours in [0, 1] without view dependence, opacities [N, 1]."""
    if len(gaussians) > _MAX_GAUSSIANS:
        gaussians = gaussians.select(gaussians.opacity_logits.topk(_MAX_GAUSSIANS).indices)
    axes = se3.rotation_from_quaternion(gaussians.quaternions) * gaussians.scales[:, None]
    arrays = {
        "centers": gaussians.means,
        "covariances": axes @ axes.transpose(1, 2),
        "rgbs": (0.5 + Y_00 * gaussians.sh[:, 0]).clamp(0, 1),
        "opacities": gaussians.opacities[:, None],
    }
    return {name: tensor.float().cpu().numpy() for name, tensor in arrays.items()}
