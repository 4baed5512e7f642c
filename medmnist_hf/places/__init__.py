"""Resolve the name of a data set to a place: one rule for all functions and commands."""
