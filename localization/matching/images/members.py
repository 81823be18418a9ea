"""The built-in image matchers, without the modules that compute.

A command line is parsed with this module alone; the module of a member is imported when it is made.
"""

from gsplatloc.localization.matching.images import IMAGE_MATCHERS

IMAGE_MATCHERS.declare("mutual", "mutual.make", help="mutual nearest keypoint descriptors")
IMAGE_MATCHERS.declare(
    "lighterglue", "lightglue.make_lighterglue", help="LighterGlue, for the keypoints of xfeat"
)
IMAGE_MATCHERS.declare("lightglue", "lightglue.make_lightglue", help="LightGlue, for the keypoints of disk")
IMAGE_MATCHERS.declare("roma", "roma.make", help="RoMa, dense; needs romatch")
IMAGE_MATCHERS.declare("mast3r", "mast3r.make", help="MASt3R, dense; needs its repository")
