"""Landmarks of a map: their file, their clusters, and guided matching with them."""
