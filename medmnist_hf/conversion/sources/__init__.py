"""Where NPZ files come from: Zenodo, a folder, or generated phantoms."""
