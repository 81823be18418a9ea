"""Files of localization: poses in and out, and the results of a run."""
