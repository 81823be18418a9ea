"""Small leaves that everything else may import: errors, SE(3), atomic files, console output."""
