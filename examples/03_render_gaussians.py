"""Rendering is differentiable in every input, the camera pose included: find a pose by gradient descent."""

import torch

from gsplatloc import Camera, Gaussians, render
from gsplatloc.utils import se3


def random_gaussians(count: int) -> Gaussians:
    """Coloured Gaussians two to three metres in front of the origin."""
    generator = torch.Generator().manual_seed(0)
    positions = torch.rand(count, 3, generator=generator) * torch.tensor([3.0, 2.0, 1.0])
    return Gaussians(
        means=positions + torch.tensor([-1.5, -1.0, 2.0]),
        quaternions=torch.randn(count, 4, generator=generator),
        log_scales=torch.full((count, 3), -2.3),
        opacity_logits=torch.full((count,), 2.0),
        sh=torch.randn(count, 1, 3, generator=generator),
        features=torch.zeros(count, 0),
    )


def main() -> None:
    gaussians = random_gaussians(400)
    camera = Camera(width=160, height=120, fx=140.0, fy=140.0, cx=80.0, cy=60.0)
    truth = torch.eye(4)
    image = render(gaussians, camera, truth).rgb  # [3, 120, 160]

    # A tangent of SE(3): metres along x, y, z, then radians about them. It is applied from the left.
    tangent = torch.tensor([0.04, -0.03, 0.02, 0.01, 0.02, -0.015], requires_grad=True)
    optimizer = torch.optim.Adam([tangent], lr=2e-3)
    for step in range(120):
        optimizer.zero_grad()
        pose = se3.se3_exp(tangent) @ truth
        loss = (render(gaussians, camera, pose).rgb - image).abs().mean()
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            millimetres = 1000 * se3.camera_center(pose).norm().item()
            print(f"step {step:3}: loss {loss.item():.4f}, {millimetres:5.1f} mm off")
    print(f"found to {1000 * se3.camera_center(se3.se3_exp(tangent)).norm().item():.2f} mm")


if __name__ == "__main__":
    main()
