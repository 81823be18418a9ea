"""The camera where it is not known: estimated with the pose from 2D-3D matches, and doubts of a given one."""
