"""Poses from 2D-3D matches: PnP, reprojection, relative pose, distortion, false alarms, covariance."""
