"""Files of localization: poses in and out, and the results of a run."""

from typing import Literal

FOLDER_NAME = "localization"
QUERIES_FOLDER_NAME = "queries"  # results of images that are not the scene's test images
JSON_LINES_NAME = "queries.jsonl"
PoseFormat = Literal["auto", "pgt", "tum", "colmap"]
