"""Where a camera is: features, landmarks, matching, pose estimation, refinement, evaluation."""
