"""A matrix of runs: what is to be run, what has been, and the report over all of it."""
