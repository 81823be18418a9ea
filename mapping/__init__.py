"""Making a map: initial points, losses, the training loop, descriptors and landmarks."""
