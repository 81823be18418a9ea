"""How a map is made: initial points, losses, the training loop, descriptors and landmarks."""
