"""What a map is: posed images read from disk, the Gaussians made from them, and the files they live in."""

from scene.readers import read_scene
from scene.readers.options import SceneOptions

__all__ = ["SceneOptions", "read_scene"]
