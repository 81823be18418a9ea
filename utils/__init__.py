"""Small modules that all other packages may import: errors, SE(3), atomic files, console output."""
