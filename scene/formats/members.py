"""The built-in splat formats, without the modules that compute.

A command line is parsed with this module alone; the module of a member is imported when it is made.
"""

from gsplatloc.scene.formats import SPLAT_FORMATS

SPLAT_FORMATS.declare("ply", "ply.Ply", help="the .ply of 3D Gaussian splatting")
SPLAT_FORMATS.declare("splat", "splat.Splat", help="32 bytes per Gaussian (antimatter15)")
SPLAT_FORMATS.declare("small", "small.Small", help="23 bytes per Gaussian, 3 more per higher harmonic")
SPLAT_FORMATS.declare("ksplat", "ksplat.Ksplat", help="sections of buckets (GaussianSplats3D)")
SPLAT_FORMATS.declare("glb", "glb.Glb", help="glTF with KHR_gaussian_splatting", priority=1)
SPLAT_FORMATS.declare(
    "compressed_ply", "compressed_ply.CompressedPly", help="SuperSplat's .compressed.ply", priority=1
)
SPLAT_FORMATS.declare("spz", "gaussforge.Spz", help="Niantic's .spz", priority=1)
SPLAT_FORMATS.declare("sog", "sog.Sog", help="PlayCanvas's .sog", priority=1)
