"""Parts that all benchmarks share, and the folders of their files."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("GSPLATLOC_DATA", ROOT.parent / "shared" / "data"))  # folder of the data sets
RESULTS = ROOT / "benchmarks" / "results"  # recorded figures, committed
OUTPUT = ROOT / "output"  # maps, copies of scenes, logs
