"""What is proved of a build: every pixel against its source, and faults of the data itself."""
