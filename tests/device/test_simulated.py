"""The simulated GPU itself: it must refuse and count what a real one does."""

import pytest
import torch
import torch.nn.functional as F

from tests.device.simulated import DEVICE, GpuTensor, SimulatedGpu


def test_tensors_of_two_devices_do_not_mix() -> None:
    with SimulatedGpu():
        x = torch.ones(3, device="cuda")
        for operation in (torch.add, torch.dot, torch.maximum):
            with pytest.raises(RuntimeError, match="on the CPU"):
                operation(x, torch.ones(3))
        with pytest.raises(RuntimeError, match="on the CPU"):
            torch.cat([x, torch.ones(3)])
        assert (x * torch.tensor(2.0)).device == DEVICE  # scalars may


def test_results_stay_on_the_device_and_gradients_come_back_to_where_leaves_are() -> None:
    with SimulatedGpu():
        leaf = torch.ones(2, 3, requires_grad=True)
        on_gpu = torch.rand(3, 4, device="cuda", requires_grad=True)
        F.normalize(leaf.to("cuda") @ on_gpu, dim=1).square().sum().sqrt().backward()
        assert not isinstance(leaf.grad, GpuTensor) and leaf.grad is not None
        assert on_gpu.grad is not None and on_gpu.grad.device == DEVICE


def test_numpy_is_refused_and_a_copy_to_the_cpu_is_a_wait() -> None:
    with SimulatedGpu() as gpu:
        x = torch.arange(4, device="cuda")
        with pytest.raises(TypeError, match="numpy"):
            x.numpy()
        assert not gpu.waits
        assert x.cpu().numpy().tolist() == [0, 1, 2, 3] and len(gpu.waits) == 1


@pytest.mark.parametrize(
    ("what", "waits"),
    [
        (lambda x: x.sum().item(), 1),
        (lambda x: bool((x > 0).any()), 1),
        (lambda x: (x > 1).nonzero(), 1),
        (lambda x: x[x > 1], 1),
        (lambda x: x.tolist(), 1),
        (lambda x: x.new_tensor([1.0]), 1),
        (lambda x: torch.tensor([1.0], device=x.device), 1),
        (lambda x: torch.ones(3).to(x.device), 1),
        (lambda x: torch.ones(3).pin_memory().to(x.device, non_blocking=True), 0),
        (lambda x: x.new_zeros(3) + torch.zeros_like(x) + torch.arange(3, device=x.device), 0),
        (lambda x: torch.where(x > 1, x, 0.0).cumsum(0)[:2].clamp(max=3), 0),
    ],
)
def test_what_makes_the_host_wait_is_counted(what: object, waits: int) -> None:
    with SimulatedGpu() as gpu:
        x = torch.arange(3.0, device="cuda")
        what(x)  # type: ignore[operator]
        assert len(gpu.waits) == waits


def test_generators_belong_to_a_device() -> None:
    with SimulatedGpu():
        generator = torch.Generator("cuda").manual_seed(1)
        assert torch.randn(3, generator=generator, device="cuda").device == DEVICE
        with pytest.raises(RuntimeError, match="generator"):
            torch.randn(3, generator=torch.Generator(), device="cuda")


def test_in_place_operations_and_views_share_memory() -> None:
    with SimulatedGpu():
        x = torch.zeros(3, 4, device="cuda")
        x[1].add_(1)
        x[:, 0] = 5
        assert x.cpu().sum().item() == 15 + 3
