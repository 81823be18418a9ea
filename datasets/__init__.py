"""Scripts that download or make scenes, and the code they share."""
