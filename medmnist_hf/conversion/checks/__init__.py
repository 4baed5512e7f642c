"""Checks of finished builds: comparison with the source, pixel by pixel, and an audit of the data itself."""
