"""A GPU that is not there: tensors that say they are on `cuda:0`, compute on the CPU, and refuse to be mixed.

    with SimulatedGpu() as gpu:
        x = torch.ones(3, device="cuda")        # x.device is cuda:0
        x + torch.ones(3)                       # RuntimeError, as on a real GPU
        x.sum().item()                          # gpu.waits grows by one

What a real GPU refuses, this one refuses: tensors of different devices in one operation (but for CPU scalars
and CPU indices), `.numpy()`, a generator of the other device. What makes a host wait for a real GPU is
written down in `waits` with the line of ours that did it. Numbers are those of the CPU, so that whole runs
can be executed, data-dependent shapes included. It knows nothing of kernels, streams, memory or speed.
"""

import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("cuda", 0)
_ROOT = Path(__file__).resolve().parents[2]
_SCALARS = {
    torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.__bool__, torch.Tensor.__int__,
    torch.Tensor.__float__, torch.Tensor.__index__, torch.Tensor.__contains__,
}  # fmt: skip
_NEW = {torch.Tensor.new_tensor}
# The size of what they return, or whether they succeeded, is only known when they are done.
_WAITING = {
    "_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "unique_consecutive", "masked_select",
    "equal", "bincount", "repeat_interleave", "_linalg_eigh", "_linalg_solve_ex", "linalg_inv_ex",
    "linalg_cholesky_ex", "_linalg_svd",
}  # fmt: skip
# Operations that take CPU tensors beside a GPU's: indices are uploaded, copies are what they are for.
_MIXING = {"index", "index_put", "index_put_", "_index_put_impl_", "copy_", "_index_put_impl"}


@dataclass(frozen=True)
class Wait:
    """The host waited for the GPU."""

    operation: str
    where: str  # file:line of ours, or "" where none is on the stack


class GpuTensor(Tensor):
    """A tensor on the simulated device. `host` holds its numbers."""

    host: Tensor
    gpu: "SimulatedGpu"
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, host: Tensor, gpu: "SimulatedGpu") -> "GpuTensor":
        made: GpuTensor = Tensor._make_wrapper_subclass(
            cls, host.shape, strides=host.stride(), storage_offset=host.storage_offset(), dtype=host.dtype,
            requires_grad=False,
        )  # fmt: skip
        made.host, made.gpu = host, gpu
        return made

    device = property(lambda self: DEVICE)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"GpuTensor({self.host!r})"

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        flat = tree_flatten((args, kwargs))[0]
        gpu = next(value.gpu for value in flat if isinstance(value, GpuTensor))
        gpu.check(func, flat)
        kwargs.pop("device", None)

        def to_host(value: Any) -> Any:
            return value.host if isinstance(value, GpuTensor) else value

        out = func(*tree_map(to_host, args), **tree_map(to_host, kwargs))
        known = {id(value.host): value for value in flat if isinstance(value, GpuTensor)}
        out = tree_map(lambda v: known.get(id(v), GpuTensor(v, gpu)) if isinstance(v, Tensor) else v, out)
        return return_and_correct_aliasing(func, args, kwargs, out)


class _Upload(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, gpu: "SimulatedGpu") -> Tensor:
        return GpuTensor(tensor.detach().clone(), gpu)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0].host if isinstance(grads[0], GpuTensor) else grads[0], None


class _Download(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: GpuTensor) -> Tensor:
        ctx.gpu = tensor.gpu
        return tensor.host.detach().clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return GpuTensor(grads[0], ctx.gpu)


_Generator = torch.Generator


class GpuGenerator(torch.Generator):
    """Random numbers drawn on the simulated device."""

    device = DEVICE


class SimulatedGpu(TorchFunctionMode):
    """Makes `cuda` a device within its `with` block; other threads see none of it."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[Wait] = []
        self._pinned: set[int] = set()

    def __enter__(self) -> "SimulatedGpu":
        torch.Generator = GeneratorOfAnyDevice  # type: ignore[misc,assignment]
        # Modules get new parameters when they are moved: the old ones have another Python type.
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        super().__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        torch.Generator = _Generator  # type: ignore[misc]
        torch.__future__.set_overwrite_module_params_on_conversion(False)
        super().__exit__(*details)

    def upload(self, tensor: Tensor) -> Tensor:
        """The tensor on the simulated device, without being counted."""
        return tensor if isinstance(tensor, GpuTensor) else _Upload.apply(tensor, self)

    def wait(self, operation: str) -> None:
        """Write down that the host waits."""
        ours = [f for f in traceback.extract_stack() if _is_ours(f.filename)]
        where = f"{Path(ours[-1].filename).relative_to(_ROOT)}:{ours[-1].lineno}" if ours else ""
        self.waits.append(Wait(operation, where))

    def check(self, func: Any, flat: list[Any]) -> None:
        """Refuse what a real GPU refuses, and note what it waits for."""
        name = func.__name__.split(".")[0]
        strangers = [v for v in flat if isinstance(v, Tensor) and not isinstance(v, GpuTensor) and v.ndim > 0]
        if strangers and name not in _MIXING:
            shapes = [list(v.shape) for v in strangers]
            raise RuntimeError(f"{name}: expected all tensors on {DEVICE}, found one on the CPU: {shapes}")
        masked = name.startswith("index") and any(
            isinstance(v, Tensor) and v.dtype in (torch.bool, torch.uint8) for v in flat[1:]
        )
        if name in _WAITING or masked or strangers:
            self.wait(name)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        mine = bool(args) and isinstance(args[0], GpuTensor)
        name = getattr(func, "__name__", "")
        if func is torch.Tensor.to:
            return self._to(*args, **kwargs)
        if func is torch.Tensor.cpu:
            return self._to(args[0], "cpu")
        if func is torch.Tensor.cuda:
            return self._to(args[0], DEVICE)
        if func is torch.Tensor.type_as:
            return self._to(args[0], args[1])
        if func is torch.Tensor.pin_memory:
            if mine:
                raise RuntimeError("cannot pin a tensor of the GPU")
            pinned = args[0].clone()
            pinned.was_pinned = True
            return pinned
        if mine and func in _SCALARS:
            self.wait(name)
            return func(args[0].host, *args[1:], **kwargs)
        if mine and name == "numpy":
            raise TypeError("can't convert cuda:0 device type tensor to numpy: use Tensor.cpu() first")
        if mine and func in _NEW:
            self.wait(name)
            kwargs.setdefault("dtype", args[0].dtype)
            return self.upload(func(args[0].host, *args[1:], **kwargs))
        if "device" in kwargs and kwargs["device"] is not None:
            return self._made(func, args, kwargs)
        if isinstance(kwargs.get("generator"), GpuGenerator):
            raise RuntimeError("expected a generator of the CPU, found one of cuda:0")
        return func(*args, **kwargs)

    def _made(self, func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        """A new tensor on the device that it was asked for."""
        on_gpu = torch.device(kwargs.pop("device")).type == "cuda"
        generator = kwargs.get("generator")
        if generator is not None and isinstance(generator, GpuGenerator) != on_gpu:
            raise RuntimeError(f"expected a generator of the tensor's device, found {generator.device}")
        if not on_gpu:
            return func(*args, **kwargs, device="cpu")
        if func in (torch.tensor, torch.as_tensor):
            self.wait(func.__name__)
        args = tree_map(lambda v: v.host if isinstance(v, GpuTensor) else v, args)
        with_grad = kwargs.pop("requires_grad", False)
        return self.upload(func(*args, **kwargs, device="cpu").detach()).requires_grad_(with_grad)

    def _to(self, tensor: Tensor, *args: Any, copy: bool = False, **kwargs: Any) -> Tensor:
        if args and isinstance(args[0], Tensor):
            device, dtype, rest = args[0].device, args[0].dtype, {}
        else:
            memory_format = kwargs.pop("memory_format", None)
            device, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **kwargs)
            rest = {} if memory_format is None else {"memory_format": memory_format}
            kwargs["non_blocking"] = non_blocking
        mine = isinstance(tensor, GpuTensor)
        target = mine if device is None else device.type == "cuda"
        if target != mine:
            asynchronous = kwargs.get("non_blocking") and getattr(tensor, "was_pinned", False)
            if not asynchronous:
                self.wait("to cpu" if mine else "to cuda")
            tensor = _Download.apply(tensor) if mine else _Upload.apply(tensor, self)
        if dtype is not None and dtype != tensor.dtype or rest:
            return tensor.to(dtype or tensor.dtype, **rest)
        return tensor.clone() if copy and target == mine else tensor


class _AnyGenerator(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, _Generator)


class GeneratorOfAnyDevice(metaclass=_AnyGenerator):
    """Stands in for torch.Generator."""

    def __new__(cls, device: Any = "cpu") -> Any:
        return GpuGenerator() if torch.device(device).type == "cuda" else _Generator(device)


def _is_ours(filename: str) -> bool:
    path = Path(filename)
    return path.is_relative_to(_ROOT) and "tests" not in path.parts and ".venv" not in path.parts


def simulated_package(package: ModuleType, gpu: SimulatedGpu) -> SimpleNamespace:
    """The native package as if built for CUDA: its CPU backend, for tensors of the simulated device."""

    def on_gpu(tensors: Iterable[Any]) -> bool:
        found = {isinstance(tensor, GpuTensor) for tensor in tensors if isinstance(tensor, Tensor)}
        if len(found) > 1:
            raise ValueError("expected all tensors on one device, found some on the CPU")
        return found == {True}

    def download(value: Any) -> Any:
        return _Download.apply(value) if isinstance(value, GpuTensor) else value

    def rasterize(*args: Any, **kwargs: Any) -> Any:
        if not on_gpu((*args, *kwargs.values())):
            return package.rasterize(*args, **kwargs)
        gpu.wait("rasterize")  # for the number of intersections
        found = package.rasterize(*map(download, args), **{k: download(v) for k, v in kwargs.items()})
        return type(found)(**{k: v if v is None else gpu.upload(v) for k, v in vars(found).items()})

    def photometric_loss(rendered: Tensor, target: Tensor, *args: Any) -> Tensor:
        if not on_gpu((rendered, target)):
            return package.photometric_loss(rendered, target, *args)
        return gpu.upload(package.photometric_loss(download(rendered), download(target), *args))

    def adam_step(parameters: Sequence[Any], *args: Any) -> None:
        if on_gpu(value for parameter in parameters for value in vars(parameter).values()):
            # Not copies: a step changes the tensors in place.
            parameters = [
                replace(each, **{k: v.host for k, v in vars(each).items() if isinstance(v, GpuTensor)})
                for each in parameters
            ]
        package.adam_step(parameters, *args)

    return SimpleNamespace(
        RasterizerSettings=package.RasterizerSettings,
        rasterize=rasterize,
        photometric_loss=photometric_loss,
        AdamParameter=package.AdamParameter,
        adam_step=adam_step,
        has_cuda=lambda: True,
    )
