"""Tables of papers made again: data, maps, localization and a page beside the published figures."""
