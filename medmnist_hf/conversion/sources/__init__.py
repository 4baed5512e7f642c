"""Sources of NPZ files: Zenodo, a folder, or generated phantoms."""
