"""Reading builds and repositories: rows, decoded pixels, whole splits as arrays, and their cache on disk."""
