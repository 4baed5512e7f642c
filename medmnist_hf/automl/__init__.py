"""AutoML engines, each in a process and, if need be, an environment of its own; arrays and scores are files."""
