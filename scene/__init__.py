"""The parts of a map: posed images read from disk, the Gaussians made from them, and the files of both."""

from gsplatloc.scene.readers import read_scene
from gsplatloc.scene.readers.options import SceneOptions

__all__ = ["SceneOptions", "read_scene"]
