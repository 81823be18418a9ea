"""The host shim itself: what is right works in every order of threads, what is wrong is found out."""

import math
from types import ModuleType

import pytest
import torch
from torch import Tensor

from tests.cuda.support import ORDERS, address


@pytest.fixture(autouse=True)
def in_order(selftest: ModuleType) -> None:
    selftest.set_order(0)
    selftest.reset_statistics()


def block_sums(selftest: ModuleType, values: Tensor, threads: int, barrier: bool = True) -> Tensor:
    out = torch.full(((len(values) + threads - 1) // threads,), -1.0)
    selftest.sum_blocks(address(values), address(out), len(values), threads, barrier)
    return out


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("threads", [32, 64, 256, 1024])
def test_blocks_sum_through_shuffles_and_shared_memory(
    selftest: ModuleType, threads: int, order: int
) -> None:
    selftest.set_order(order)
    values = torch.arange(2500.0)
    expected = torch.stack([chunk.sum() for chunk in values.split(threads)])
    assert torch.equal(block_sums(selftest, values, threads), expected)


def test_a_missing_barrier_shows_as_results_that_depend_on_the_order(selftest: ModuleType) -> None:
    values = torch.arange(256.0)
    found = []
    for order in ORDERS:
        selftest.set_order(order)
        found.append(block_sums(selftest, values, 256, barrier=False).item())
    assert any(value != values.sum().item() for value in found)


def test_unwritten_shared_memory_is_nan(selftest: ModuleType) -> None:
    assert block_sums(selftest, torch.arange(256.0), 256, barrier=False).isnan().all()


@pytest.mark.parametrize("order", ORDERS)
def test_warp_functions(selftest: ModuleType, order: int) -> None:
    selftest.set_order(order)
    out = torch.zeros(5, 32, dtype=torch.uint32)
    selftest.warp_functions(address(out))
    up, xor, broadcast, ballot, match = (row.to(torch.int64).tolist() for row in out)
    assert up == [10 * (lane if lane < 2 else lane - 2) for lane in range(32)]
    # xor with 5 within eights: a lane beyond the own eight gives back the own value.
    assert xor == [lane ^ 5 for lane in range(32)]
    assert broadcast == [lane // 8 * 8 + 3 for lane in range(32)]
    assert ballot == [0xAAAAAAAA] * 32
    assert match == [sum(1 << k for k in range(lane % 3, 32, 3)) for lane in range(32)]


@pytest.mark.parametrize("order", ORDERS)
def test_half_warps_may_go_their_own_ways(selftest: ModuleType, order: int) -> None:
    selftest.set_order(order)
    out = torch.zeros(32, dtype=torch.uint32)
    selftest.half_warps(address(out))
    assert out.to(torch.int64).tolist() == [sum(range(16))] * 16 + [sum(range(16, 32))] * 16


@pytest.mark.parametrize("order", ORDERS)
def test_atomics_and_counting_barrier(selftest: ModuleType, order: int) -> None:
    selftest.set_order(order)
    values = torch.arange(1000, dtype=torch.int32) * 7 % 101
    bins, total, largest = (
        torch.zeros(5, dtype=torch.int32),
        torch.zeros(1),
        torch.zeros(1, dtype=torch.int32),
    )
    selftest.histogram(address(values), 1000, 96, address(bins), address(total), address(largest))
    assert bins[:4].tolist() == [int((values % 4 == k).sum()) for k in range(4)]
    assert bins[4] == (values % 2).sum()
    assert total.item() == 500
    assert largest.item() == values.max()


def test_every_order_is_another_one(selftest: ModuleType) -> None:
    found = set()
    for order in ORDERS:
        selftest.set_order(order)
        counter, out = torch.zeros(1, dtype=torch.int32), torch.zeros(3 * 64, dtype=torch.int32)
        selftest.arrivals(address(counter), address(out), 3, 64)
        assert sorted(out.tolist()) == list(range(3 * 64))
        found.add(tuple(out.tolist()))
    assert len(found) == len(ORDERS)


def test_the_same_order_twice_is_the_same(selftest: ModuleType) -> None:
    found = []
    for _ in range(2):
        selftest.set_order(5)
        counter, out = torch.zeros(1, dtype=torch.int32), torch.zeros(3 * 64, dtype=torch.int32)
        selftest.arrivals(address(counter), address(out), 3, 64)
        found.append(out.tolist())
    assert found[0] == found[1]


@pytest.mark.parametrize("wait", [True, False])
def test_asynchronous_copies_arrive_when_waited_for(selftest: ModuleType, wait: bool) -> None:
    values, out = torch.arange(32.0), torch.zeros(32)
    selftest.pipeline(address(values), address(out), wait)
    assert torch.equal(out, values.flip(0)) if wait else bool(out.isnan().all())


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "fault,message",
    [
        ("DIVERGENT_BARRIER", "deadlock.*at __syncthreads .selftest.cu.*at __syncwarp .selftest.cu"),
        ("TWO_BARRIERS", "different barriers"),
        ("NOT_IN_MASK", "not in its own mask 0x0000ffff"),
        ("MISSING_LANE", "deadlock.*threads 0-19 at a shuffle"),
        ("DIFFERENT_COLLECTIVES", "different collectives"),
        ("READS_OUTSIDE_MASK", "reads lane 20"),
        ("SHARED_TOO_SMALL", "uses 128 bytes of shared memory, but was launched with 4"),
        ("SHARED_OVERRUN", "written behind the shared memory"),
    ],
)
def test_broken_kernels_are_found_out(selftest: ModuleType, fault: str, message: str, order: int) -> None:
    selftest.set_order(order)
    out = torch.zeros(64)
    with pytest.raises(RuntimeError, match=message):
        selftest.broken(selftest.Fault[fault], address(out), 64, 4)
    # and the next kernel runs as if nothing had happened
    assert block_sums(selftest, torch.ones(64), 64).item() == 64


@pytest.mark.parametrize("threads,fits", [(64, True), (96, False)])
def test_canaries_notice_writes_behind_an_allocation(selftest: ModuleType, threads: int, fits: bool) -> None:
    memory = selftest.Memory()
    selftest.broken(selftest.Fault.WRITES_BEHIND, memory(64 * 4), threads, 0)
    if fits:
        memory.check()
        return
    with pytest.raises(RuntimeError, match="allocation 0 of 256 bytes: something was written at byte 256"):
        memory.check()


@pytest.mark.parametrize("threads,shared,message", [(2048, 0, "configuration"), (64, 1 << 20, "argument")])
def test_launches_that_no_gpu_would_run_are_refused(
    selftest: ModuleType, threads: int, shared: int, message: str
) -> None:
    asked = f"CUDA could not run broken with 1 x 1 x 1 blocks of {threads} threads and {shared} bytes"
    with pytest.raises(RuntimeError, match=f"{asked}.*: invalid {message}"):
        selftest.broken(selftest.Fault.WRITES_BEHIND, address(torch.zeros(64)), threads, shared)
    assert selftest.last_error() == 0, "the next launch would be blamed for this one's error"


def test_an_error_that_was_there_before_is_not_blamed_on_the_launch(selftest: ModuleType) -> None:
    selftest.leave_error(1)
    with pytest.raises(RuntimeError, match="failed before sum_blocks was launched: invalid argument"):
        block_sums(selftest, torch.ones(64), 64)
    assert block_sums(selftest, torch.ones(64), 64).item() == 64


def test_a_query_that_found_work_under_way_is_no_error(selftest: ModuleType) -> None:
    selftest.leave_error(600)
    assert block_sums(selftest, torch.ones(64), 64).item() == 64
    assert selftest.last_error() == 0


def products(selftest: ModuleType, full: bool) -> tuple[Tensor, Tensor]:
    """A[16, 8] B[8, 8] by tensor-core fragments and in float64, for eight random pairs."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(8, 16, 8, generator=generator), torch.randn(8, 8, 8, generator=generator)
    found = torch.zeros(8, 16, 8)
    for k in range(8):
        selftest.multiply(address(a[k]), address(b[k]), address(found[k]), full)
    return found, a.double() @ b.double()


def test_matrix_fragments_multiply_like_matrices(selftest: ModuleType) -> None:
    found, expected = products(selftest, full=True)
    assert torch.allclose(found.double(), expected, rtol=0, atol=4e-6)


def test_one_tf32_product_is_as_coarse_as_tf32(selftest: ModuleType) -> None:
    found, expected = products(selftest, full=False)
    error = (found - expected).abs().max().item()
    assert 1e-4 < error < 8 * 3 * 2**-11


@pytest.mark.parametrize("order", ORDERS[:2])
@pytest.mark.parametrize("channels,count", [(1, 8), (7, 3), (8, 8), (33, 1), (64, 8)])
@pytest.mark.parametrize("left,top", [(0, 0), (8, 4)], ids=["inside", "corner"])
def test_values_by_fragments_are_those_of_a_sum_by_channel(
    selftest: ModuleType, left: int, top: int, channels: int, count: int, order: int
) -> None:
    """Of each splat at each pixel; pixels outside the image and missing splats have none."""
    width, height = 13, 6  # the second block of pixels reaches beyond both
    generator = torch.Generator().manual_seed(channels)
    features = torch.randn(count, channels, generator=generator)
    image = torch.randn(channels, height, width, generator=generator)
    found = torch.full((32, 8), math.nan)
    selftest.set_order(order)
    selftest.feature_values(
        address(features), address(image), address(found), channels, width, height, left, top, count
    )
    padded = torch.nn.functional.pad(image, (0, 8, 0, 4)).double()
    pixels = padded[:, top : top + 4, left : left + 8].reshape(channels, 32)
    expected = torch.zeros(32, 8, dtype=torch.float64)
    scale = expected.clone()
    for c in range(channels):
        expected[:, :count] += pixels[c, :, None] * features[None, :, c]
        scale[:, :count] += pixels[c, :, None].abs() * features[None, :, c].abs()
    assert ((found - expected).abs() <= 2**-19 * scale).all()


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 3.1415927, 1 / 3, -1e-7, 1.5e8, 1 + 2**-11, 2.0**-140])
def test_split_keeps_22_bits_in_two_tf32_numbers(selftest: ModuleType, value: float) -> None:
    exact = torch.tensor([value])
    high, low = selftest.split(exact.item())
    assert abs(exact.double().item() - high - low) <= 2**-22 * abs(exact.item()) + 2**-140
    for part in (high, low):
        bits = torch.tensor([part]).view(torch.int32).item()
        assert bits & 0x1FFF == 0, "not a tf32 number"


def is_tf32_nan(bits: int) -> bool:
    return bits & 0x7F800000 == 0x7F800000 and bits & 0x7FE000 != 0


@pytest.mark.parametrize("sign", [0, 1 << 31])
@pytest.mark.parametrize("nan", [0x7FC00000, 0x7FFFFFFF, 0x7F800001, 0x7F801FFF, 0x7F802000])
def test_every_nan_stays_one_in_tensor_cores(selftest: ModuleType, nan: int, sign: int) -> None:
    assert any(is_tf32_nan(part) for part in selftest.split_both(nan | sign))


def test_the_nan_of_a_gpu_is_rounded_to_one(selftest: ModuleType) -> None:
    """Of the difference of a NaN and infinity; the CPU of the shim has another one."""
    assert is_tf32_nan(selftest.round_rest(0x7FFFFFFF))


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, 1 + 2**-11, -1 / 3, 3e38, -3e38, 2.0**-140])
def test_the_rest_is_rounded_like_tf32(selftest: ModuleType, value: float) -> None:
    bits = torch.tensor([value]).view(torch.uint32).item()
    assert selftest.round_rest(bits) == (bits + 0x1000) & 0xFFFFE000
