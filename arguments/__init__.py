"""Command lines as typed dataclasses, composed from the options of the code that the scripts call."""
