"""How a map and its results look to a person: pictures, report, live viewer. Imported by scripts only."""
