"""Matching of descriptors (nearest neighbours, within a radius) and of whole images (images/)."""
