"""Functions in Python files of the user: names that identify a version of a file, and running it."""
