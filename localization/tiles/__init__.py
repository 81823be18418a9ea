"""Localization in maps of many tiles: retrieval finds the tiles, and a tile's localizer the pose."""
