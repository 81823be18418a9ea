"""Direct alignment of a rendering with a photo: one cost over a 6-vector of pose and two of exposure.

Pixels of the rendering are lifted by their depth, moved by exp(xi) and projected into the photo, where grey
value and descriptor are read. With I the photo, J the rendering, a gain and b bias, the photometric residual
is I(u(xi)) - (1 + a) J - b; the feature residual is the distance of unit descriptors, whose half square is
1 - cos. Both are Geman-McClure robust, and each term counts as `effective` independent observations, so that
it can be weighed against what the estimate itself is worth: half the squared Mahalanobis distance to it.

What does not change with xi is prepared once. A descriptor enters only by its products with the few cells of
the photo's map that its pixel can reach: interpolating products is interpolating descriptors. The gradient is
written out, (d cost / d u) (d u / d X) [I | -hat(X)]; coordinates are rows, so that every operation runs over
contiguous memory and an evaluation takes a fraction of a millisecond.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gsplatloc.scene.cameras import Camera
from gsplatloc.utils import se3

POSE = 6  # of the parameters (rho, phi, a, b), the first six are the pose
_MIN_DEPTH = 1e-2  # metres
_MIN_GREY_NOISE = 0.005  # about one step of an 8-bit image
_MIN_DISTANCE = 0.1  # between unit descriptors: no two photos of a place agree better


@dataclass(frozen=True)
class FeatureTable:
    """Cosines of each rendered descriptor with the cells of the photo's map around its first position."""

    cosines: Tensor  # [Q, K * K], rows of K cells
    corner: Tensor  # [2, Q] (column, row) of the first cell
    cell: Tensor  # [2, 1] pixels per cell, (x, y)
    side: int  # K

    def __len__(self) -> int:
        return len(self.cosines)

    def read(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cosine [Q] at `pixels` [2, Q], its slope per pixel [2, Q], which pixels are in the table [Q]."""
        (column, row), fraction, inside = _cells(
            pixels / self.cell - (self.corner + 0.5), self.side, self.side
        )
        start = torch.arange(len(self), device=pixels.device) * self.side**2
        first = start + row * self.side + column
        cosine, slope = _bilinear(self.cosines.reshape(-1), first, self.side, fraction)
        return cosine, slope / self.cell, inside


@dataclass(frozen=True)
class Scales:
    """What makes residuals comparable: their noise, and how much they weigh together."""

    feature_weight: float  # of the feature term relative to the photometric one
    effective: float  # independent observations that each of the two terms is worth
    photometric: float = 1.0  # standard deviation of a grey value's residual
    feature: float = 1.0  # likewise of a descriptor's distance


@dataclass(frozen=True)
class Alignment:
    """The cost. Points are in the camera frame of the rendering, where xi = 0."""

    camera: Camera  # of `image`
    image: Tensor  # [H, W] grey of the photo
    points: Tensor  # [3, P] samples, the best first
    grey: Tensor  # [P] rendered grey
    table: FeatureTable | None  # of the first Q samples
    scales: Scales
    anchor: Tensor  # [6] xi of the estimate, 0 if it was rendered there
    information: Tensor  # [6, 6] what the estimate's own evidence is worth, 0 for nothing

    def evaluate(self, parameters: Tensor) -> tuple[float, Tensor]:
        """Cost at (rho, phi, a, b) [8]; its gradient [8] with respect to a left perturbation and (a, b)."""
        local, pixels, seen = self._project(parameters)
        residual, slope, inside = self._photometric(pixels, parameters)
        value, weight = _geman_mcclure(residual * residual, self.scales.photometric, inside & seen)
        scale = self.scales.effective / self.grey.numel()
        total = scale * value.sum()
        pull = scale * weight * residual
        pixel_gradient = slope * pull
        if self.table is not None:
            total += self._add_features(self.table, pixels, seen, pixel_gradient)
        away = parameters[:POSE] - self.anchor
        anchor_pull = self.information @ away
        total += 0.5 * away @ anchor_pull
        pose = self._pull_back(local, pixel_gradient) + anchor_pull
        return total.item(), torch.cat([pose, -(pull @ self.grey)[None], -pull.sum()[None]])

    def curvature(self, parameters: Tensor) -> Tensor:
        """Gauss-Newton Hessian [8, 8] of the photometric and the prior term."""
        local, pixels, seen = self._project(parameters)
        residual, slope, inside = self._photometric(pixels, parameters)
        _, weight = _geman_mcclure(residual * residual, self.scales.photometric, inside & seen)
        at_point = _point_gradient(self.camera, local, slope)
        turn = torch.linalg.cross(local, at_point, dim=0)
        exposure = torch.stack([-self.grey, -torch.ones_like(self.grey)])
        jacobian = torch.cat([at_point, turn, exposure])
        hessian = (jacobian * weight) @ jacobian.T * (self.scales.effective / self.grey.numel())
        hessian[:POSE, :POSE] += self.information
        return hessian

    def photo_grey(self, parameters: Tensor) -> Tensor:
        """Grey values [P] of the photo where the samples fall."""
        _, pixels, _ = self._project(parameters)
        return self._photometric(pixels, torch.zeros_like(parameters))[0] + self.grey

    def with_measured_noise(self, parameters: Tensor) -> "Alignment":
        """The same cost, its noise set from the median residuals at `parameters`."""
        _, pixels, seen = self._project(parameters)
        residual, _, inside = self._photometric(pixels, parameters)
        photometric = max(1.4826 * _median(residual[inside & seen].abs()), _MIN_GREY_NOISE)
        feature = _MIN_DISTANCE
        if self.table is not None:
            cosine, _, inside = self.table.read(pixels[:, : len(self.table)])
            feature = max(_median(2 - 2 * cosine[inside]) ** 0.5, _MIN_DISTANCE)
        return replace(self, scales=replace(self.scales, photometric=photometric, feature=feature))

    def _project(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Points [3, P] moved by exp(xi), their pixels [2, P], and which are in front of the camera [P]."""
        motion = se3.se3_exp(parameters[:POSE])
        # Not a matrix product: BLAS would wake every thread for it, which costs more than the work.
        local = (motion[:3, :3, None] * self.points).sum(1) + motion[:3, 3:]
        seen = local[2] > _MIN_DEPTH
        local[2].clamp_(min=_MIN_DEPTH)
        camera = self.camera
        pixels = local[:2] / local[2]
        pixels[0].mul_(camera.fx).add_(camera.cx)
        pixels[1].mul_(camera.fy).add_(camera.cy)
        return local, pixels, seen

    def _photometric(self, pixels: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Residual [P], its slope per pixel [2, P], and which pixels lie in the photo [P]."""
        height, width = self.image.shape
        (column, row), fraction, inside = _cells(pixels - 0.5, width, height)
        value, slope = _bilinear(self.image.reshape(-1), row * width + column, width, fraction)
        gain, bias = parameters[POSE], parameters[POSE + 1]
        return value - (1 + gain) * self.grey - bias, slope, inside

    def _add_features(self, table: FeatureTable, pixels: Tensor, seen: Tensor, gradient: Tensor) -> Tensor:
        """The feature cost, a scalar. Its gradient per pixel is added to `gradient` [2, P]."""
        count = len(table)
        cosine, slope, inside = table.read(pixels[:, :count])
        value, weight = _geman_mcclure(2 - 2 * cosine, self.scales.feature, inside & seen[:count])
        scale = self.scales.effective * self.scales.feature_weight / count
        gradient[:, :count] -= scale * weight * slope  # d (distance^2 / 2) = -d cosine
        return scale * value.sum()

    def _pull_back(self, local: Tensor, pixel_gradient: Tensor) -> Tensor:
        """Gradient [6] of a left perturbation from gradients [2, P] at the pixels."""
        at_point = _point_gradient(self.camera, local, pixel_gradient)
        (x, y, z), (gx, gy, gz) = local, at_point
        turn = torch.stack([y * gz - z * gy, z * gx - x * gz, x * gy - y * gx])  # X x g
        return torch.cat([at_point, turn]).sum(1)


def feature_table(query_map: Tensor, camera: Camera, points: Tensor, descriptors: Tensor) -> FeatureTable:
    """Cosines of unit `descriptors` [Q, D] with the cells of `query_map` [D, h, w] near `points` [3, Q]."""
    side = 6  # cells: at least two each way, that is 16 pixels of the photo
    _, height, width = query_map.shape
    cell = torch.tensor([[camera.width / width], [camera.height / height]]).to(points)
    corner = (camera.project(points.T).T / cell - 0.5).floor() - (side // 2 - 1)
    steps = torch.arange(side, device=points.device)
    column = (corner[0].long()[:, None] + steps).clamp(0, width - 1)  # [Q, K]
    row = (corner[1].long()[:, None] + steps).clamp(0, height - 1)
    index = (row[:, :, None] * width + column[:, None, :]).flatten(1)
    cells = query_map.flatten(1).T[index]  # [Q, K * K, D]
    return FeatureTable(torch.bmm(cells, descriptors[:, :, None])[:, :, 0], corner, cell, side)


def _point_gradient(camera: Camera, local: Tensor, pixel_gradient: Tensor) -> Tensor:
    """Gradients [2, N] at the pixels -> [3, N] at the points: the transposed Jacobian of the projection."""
    inverse = 1 / local[2]
    x = pixel_gradient[0] * (camera.fx * inverse)
    y = pixel_gradient[1] * (camera.fy * inverse)
    return torch.stack([x, y, -(x * local[0] + y * local[1]) * inverse])


def _cells(position: Tensor, width: int, height: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sample index [2, N] left above `position` [2, N] on a grid, the fraction beyond it, if it is inside.

    Truncation is `floor` where it matters; `floor` itself would wake every thread of the vector library.
    """
    last = torch.tensor([[width - 1], [height - 1]], device=position.device)
    inside = (position[0] >= 0) & (position[1] >= 0) & (position[0] < width - 1) & (position[1] < height - 1)
    low = torch.minimum(position.clamp(min=0).long(), last - 1)
    return low, position - low, inside


def _bilinear(flat: Tensor, first: Tensor, stride: int, fraction: Tensor) -> tuple[Tensor, Tensor]:
    """Value [N], exact slope [2, N] of the bilinear interpolant with upper left sample `flat[first]`."""
    x, y = fraction.unbind()
    top_left, bottom_left = flat[first], flat[first + stride]
    top = flat[first + 1] - top_left
    bottom = flat[first + (stride + 1)] - bottom_left
    along_x = torch.lerp(top, bottom, y)
    along_y = bottom_left - top_left + x * (bottom - top)
    return top_left + x * top + y * along_y, torch.stack([along_x, along_y])


def _geman_mcclure(square: Tensor, sigma: float, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Robust negative log likelihood [N] of r^2, and the weight [N] such that its derivative is weight * r.

    2 s / (1 + s) with s = (r / 2 sigma)^2 is r^2 / 2 sigma^2 for small r and never above 2. What is not valid
    counts as an outlier, or leaving the photo would pay.
    """
    s = square.clamp(min=0) / (4 * sigma * sigma)
    tail = 1 / (1 + s)
    return torch.where(valid, 2 * s * tail, 2.0), valid * tail * tail / (sigma * sigma)


def _median(values: Tensor) -> float:
    return values.median().item() if len(values) else 0.0
