"""These tests are about the native package: without it there is nothing to collect."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("gsplatloc_kernels") else ["test_*.py"]
