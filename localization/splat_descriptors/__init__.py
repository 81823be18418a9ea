"""Descriptors of a splat that no image was kept of: a network predicts those that an extractor would find."""
