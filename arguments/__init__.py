"""Command lines as typed dataclasses, derived from the options of the code that they configure."""
