"""One call of `run`, for one subset or for several."""
