"""EWA splatting in plain PyTorch: the reference against which the native rasterizer is tested.

Every Gaussian is evaluated at every pixel, in any floating-point type. Mathematics: Zwicker et al., "EWA
Splatting" (2002); Kerbl et al., "3D Gaussian Splatting" (2023); Yu et al., "Mip-Splatting" (2024) for the
opacity compensation.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gsplatloc.gaussian_renderer import sh as spherical_harmonics
from gsplatloc.gaussian_renderer.options import RenderOptions, RenderResult, Splats
from gsplatloc.scene.cameras import Camera
from gsplatloc.scene.harmonics import MAX_DEGREE
from gsplatloc.utils import se3

MAX_ALPHA = 0.99  # so that 1 / (1 - alpha) is finite
MIN_ALPHA = 1 / 255  # contributions below one grey level are skipped
MIN_TRANSMITTANCE = 1e-4  # blending of a pixel ends before its transmittance falls below this
FRUSTUM_MARGIN = 0.3  # of half the field of view: farther outside, the ray of the Jacobian is clamped
MIN_COMPENSATION_SQ = 1e-6  # floor of the squared opacity compensation; below it the gradient is zero
_CHUNK_ELEMENTS = 1 << 22  # pixels times Gaussians evaluated at once


@dataclass(frozen=True)
class Projected:
    """Gaussians projected into the image, in the order of the input."""

    means: Tensor  # [N, 2] pixels
    covariances: Tensor  # [N, 3] xx xy yy, pixels^2, before the low-pass filter
    depths: Tensor  # [N] metres


@dataclass(frozen=True)
class Footprints:
    """Filtered Gaussians in the image, ready to be evaluated at pixels."""

    means: Tensor  # [N, 2] pixels
    conics: Tensor  # [N, 3] xx xy yy of the inverse covariance
    opacities: Tensor  # [N] compensated if `RenderOptions.antialiased`
    radii: Tensor  # [N] int32 pixels, 0 = not visible


def rasterize(
    splats: Splats,
    camera: Camera,
    cam_from_world: Tensor,
    options: RenderOptions,
    screen_offsets: Tensor | None = None,
) -> RenderResult:
    """Render `splats` seen by `camera` at `cam_from_world` [4, 4]; differentiable in all inputs.

    `screen_offsets` [N, 2] pixels are added to the projected means; densification uses their gradient.
    """
    projected = project(splats, camera, cam_from_world, options, screen_offsets)
    order = projected.depths.detach().argsort(stable=True)
    center = se3.camera_center(cam_from_world)
    colors = splats.colors
    if colors is None:
        assert splats.sh is not None
        degree = degree_in_use(splats.sh, options)
        colors = spherical_harmonics.colors(splats.sh, splats.means, center, degree)
    image = footprints(projected, splats.opacities, (camera.width, camera.height), (1.0, 1.0), options)
    values = torch.cat([colors, projected.depths[:, None]], 1)
    blended, alpha = _blend(image, values, order, camera.width, camera.height)
    background = torch.tensor(options.background, dtype=alpha.dtype, device=alpha.device)
    rgb = blended[:3] + (1 - alpha) * background[:, None, None]
    depth = torch.where(alpha > 0, blended[3] / torch.where(alpha > 0, alpha, 1), 0)
    features = None
    if splats.features is not None and options.feature_size is not None:
        features = _render_features(splats, projected, order, camera, options)
    return RenderResult(rgb, depth, alpha, features, image.radii)


def _render_features(
    splats: Splats, projected: Projected, order: Tensor, camera: Camera, options: RenderOptions
) -> Tensor:
    """Features [C, h, w] through the same camera scaled to their size."""
    assert splats.features is not None and options.feature_size is not None
    height, width = options.feature_size
    scale = (width / camera.width, height / camera.height)
    opacities = splats.opacities
    if not options.features_move_geometry:
        projected = Projected(
            projected.means.detach(), projected.covariances.detach(), projected.depths.detach()
        )
        opacities = opacities.detach()
    prints = footprints(projected, opacities, (width, height), scale, options)
    return _blend(prints, splats.features, order, width, height)[0]


def degree_in_use(sh: Tensor, options: RenderOptions) -> int:
    """The spherical-harmonics degree to evaluate: that of the options, at most that of `sh`."""
    available = round(sh.shape[1] ** 0.5) - 1
    wanted = available if options.sh_degree is None else options.sh_degree
    return min(wanted, available, MAX_DEGREE)


def covariances(quaternions: Tensor, scales: Tensor) -> Tensor:
    """Rotations [N, 4] wxyz, standard deviations [N, 3] -> covariances R S^2 R^T [N, 6], upper triangle."""
    axes = se3.rotation_from_quaternion(quaternions) * scales[:, None, :]
    full = axes @ axes.transpose(1, 2)
    rows, columns = torch.triu_indices(3, 3, device=full.device)
    return full[:, rows, columns]


def project(
    splats: Splats,
    camera: Camera,
    cam_from_world: Tensor,
    options: RenderOptions,
    screen_offsets: Tensor | None = None,
) -> Projected:
    """Perspective projection of the means, its linearisation (EWA) of the covariances."""
    rotation, translation = cam_from_world[:3, :3], cam_from_world[:3, 3]
    x, y, z = (splats.means @ rotation.T + translation).unbind(-1)
    behind = z < options.near  # not drawn; depth 1 instead keeps their values and gradients finite
    safe_z = torch.where(behind, torch.ones_like(z), z)
    u, v = x / safe_z, y / safe_z
    means = torch.stack([u * camera.fx + camera.cx, v * camera.fy + camera.cy], -1)
    if screen_offsets is not None:
        means = means + screen_offsets
    jacobian = _jacobian(u, v, safe_z, camera)
    packed = splats.covariances
    if packed is None:
        assert splats.quaternions is not None and splats.scales is not None
        packed = covariances(splats.quaternions, splats.scales)
    full = packed[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3)
    to_image = jacobian @ rotation
    image = to_image @ full @ to_image.transpose(1, 2)
    flat = torch.stack([image[:, 0, 0], image[:, 0, 1], image[:, 1, 1]], -1)
    return Projected(means, flat, torch.where(behind, torch.full_like(z, -1), z))


def _jacobian(u: Tensor, v: Tensor, z: Tensor, camera: Camera) -> Tensor:
    """d(pixel)/d(point) [N, 2, 3] at the ray (u, v, 1), which is clamped to a margin around the image.

    Far outside the image the linearisation enlarges Gaussians to streaks. A clamped ray makes the Jacobian
    constant there, and its gradient with respect to the ray zero.
    """
    half_width, half_height = camera.width / (2 * camera.fx), camera.height / (2 * camera.fy)
    left, top = -camera.cx / camera.fx, -camera.cy / camera.fy
    right, bottom = left + 2 * half_width, top + 2 * half_height
    u = u.clamp(left - FRUSTUM_MARGIN * half_width, right + FRUSTUM_MARGIN * half_width)
    v = v.clamp(top - FRUSTUM_MARGIN * half_height, bottom + FRUSTUM_MARGIN * half_height)
    zero = torch.zeros_like(z)
    rows = [camera.fx / z, zero, -camera.fx * u / z, zero, camera.fy / z, -camera.fy * v / z]
    return torch.stack(rows, -1).reshape(-1, 2, 3)


def footprints(
    projected: Projected,
    opacities: Tensor,
    size: tuple[int, int],
    scale: tuple[float, float],
    options: RenderOptions,
) -> Footprints:
    """Low-pass filter, inverse, opacity compensation and visibility in an image of `size` (width, height).

    `scale` (x, y) is the size of that image relative to the projection's.
    """
    sx, sy = scale
    means = projected.means * projected.means.new_tensor([sx, sy])
    xx, xy, yy = (projected.covariances * means.new_tensor([sx * sx, sx * sy, sy * sy])).unbind(-1)
    sharp = (xx * yy - xy * xy).clamp_min(0)
    low_pass = options.low_pass
    det = sharp + low_pass * (xx + yy) + low_pass**2  # of the filtered covariance, without cancellation
    valid = (projected.depths >= options.near) & (det > 0)
    det = torch.where(valid, det, torch.ones_like(det))
    xx, yy = xx + low_pass, yy + low_pass
    if options.antialiased:
        opacities = opacities * (sharp / det).clamp_min(MIN_COMPENSATION_SQ).sqrt()
    conics = torch.stack([yy / det, -xy / det, xx / det], -1)
    with torch.no_grad():
        # alpha >= 1/255 inside the ellipse d^T conic d <= 2 ln(255 opacity)
        reach_sq = 2 * (opacities / MIN_ALPHA).clamp_min(1e-30).log()
        extent = (reach_sq.clamp_min(0)[:, None] * torch.stack([xx, yy], -1)).sqrt()
        limit = means.new_tensor(size) - 0.5
        overlaps = ((means + extent >= 0.5) & (means - extent <= limit)).all(1)
        mean_variance = (xx + yy) / 2
        largest = mean_variance + (mean_variance**2 - det).clamp_min(0).sqrt()
        radii = (reach_sq.clamp_min(0) * largest).sqrt().ceil().clamp(1, 1 << 30)
        radii = torch.where(valid & overlaps & (reach_sq >= 0), radii, 0).int()
    return Footprints(means, conics, opacities, radii)


def _blend(
    prints: Footprints, values: Tensor, order: Tensor, width: int, height: int
) -> tuple[Tensor, Tensor]:
    """Front-to-back blending of `values` [N, C] -> ([C, height, width], alpha [height, width])."""
    order = order[prints.radii[order] > 0]
    columns = torch.arange(width, dtype=values.dtype, device=values.device) + 0.5
    rows = torch.arange(height, dtype=values.dtype, device=values.device) + 0.5
    pixels = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).reshape(-1, 2)
    inputs = (prints.means[order], prints.conics[order], prints.opacities[order], values[order])
    chunk = max(1, _CHUNK_ELEMENTS // max(1, len(order)))
    # Checkpointing keeps the intermediates of one chunk in memory instead of all.
    parts = [checkpoint(_blend_pixels, part, *inputs, use_reentrant=False) for part in pixels.split(chunk)]
    blended = torch.cat([part[0] for part in parts]).T.reshape(-1, height, width)
    return blended, torch.cat([part[1] for part in parts]).reshape(height, width)


def _blend_pixels(
    pixels: Tensor, means: Tensor, conics: Tensor, opacities: Tensor, values: Tensor
) -> tuple[Tensor, Tensor]:
    """Pixels [P, 2], Gaussians nearest first -> (blended values [P, C], alpha [P])."""
    dx = pixels[:, None, 0] - means[None, :, 0]
    dy = pixels[:, None, 1] - means[None, :, 1]
    a, b, c = conics.unbind(-1)
    power = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    alpha = (opacities * torch.exp(-power)).clamp_max(MAX_ALPHA)
    alpha = torch.where(alpha >= MIN_ALPHA, alpha, 0)
    # Transmittance decreases monotonically: after it reaches the limit no Gaussian is drawn.
    alpha = torch.where((1 - alpha).cumprod(1) >= MIN_TRANSMITTANCE, alpha, 0)
    behind = (1 - alpha).cumprod(1)
    transmittance = torch.cat([torch.ones_like(behind[:, :1]), behind[:, :-1]], 1)
    weights = alpha * transmittance
    return weights @ values, weights.sum(1)
