"""These tests are about the native package: without it there is nothing to collect."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("diff_gaussian_rasterization") else ["test_*.py"]
