"""Training of the network that describes splats: its examples, its loss, its record."""
