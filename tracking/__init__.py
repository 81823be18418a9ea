"""Tracking: the pose of an RGB-D camera in each frame, and a map of Gaussians made of its depth."""
