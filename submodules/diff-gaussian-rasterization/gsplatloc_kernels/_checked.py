"""The native module, checked before any other module of the package imports it."""

from gsplatloc_kernels import _core
from gsplatloc_kernels.interface import check_interface

check_interface(_core)
isa = _core.isa
