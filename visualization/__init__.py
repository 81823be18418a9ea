"""Pictures, report and live viewer of maps and results. Imported by scripts only."""
