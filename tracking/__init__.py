"""Where a moving RGB-D camera is, frame by frame, and the map of Gaussians that its depth makes."""
