"""The pose of a query image: features, landmarks, matching, pose estimation, refinement, evaluation."""
