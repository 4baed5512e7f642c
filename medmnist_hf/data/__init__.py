"""Reading a build or a repository: rows, decoded pixels, whole splits as arrays and their cache on disk."""
