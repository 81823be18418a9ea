"""Alignment of an image with a rendered view: correspondences, residuals, robust minimisation, exposure."""
