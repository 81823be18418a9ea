"""Intrinsics that are probably not those of their image: of another size or unit, or not filled in."""

from gsplatloc.scene.cameras import Camera

_MOST_OBLONG = 1.25  # ratio of the focal lengths; pixels of photos are square, of few videos up to 1.42


def doubt(camera: Camera) -> str | None:
    """What is unusual about a camera, as a noun for a message; None if nothing is."""
    center = f"a principal point of {camera.cx:g}, {camera.cy:g}"
    if 0 < camera.cx <= 1 and 0 < camera.cy <= 1:
        return f"{center}, which seems to be relative to the size of the image"
    if not (0 < camera.cx < camera.width and 0 < camera.cy < camera.height):
        return f"{center}, which is not within {camera.width}x{camera.height} pixels"
    if not 1 / _MOST_OBLONG < camera.fx / camera.fy < _MOST_OBLONG:
        return f"focal lengths of {camera.fx:g} and {camera.fy:g}, which differ"
    return None
