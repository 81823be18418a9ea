"""Landmarks: their file, clusters of them, and guided matching with them."""
