"""Load a data set by name, and build it first if it is missing and the caller asks for it."""
