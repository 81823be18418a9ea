"""Maps of large places: overlapping blocks of views are mapped one by one, each in a tile's folder."""
