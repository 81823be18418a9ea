"""The alignment engine of lm, warp, gsloc and tracking: residual blocks, one robust cost, two minimisers."""
