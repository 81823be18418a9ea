"""Descriptors of a splat without its images: a network predicts those that an extractor would give."""
