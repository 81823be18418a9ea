"""The live view: a map, its queries and their matches in the browser. Needs viser, which is optional."""
