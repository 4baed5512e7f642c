"""Data set cards: README, Croissant description and eval.yaml of a subset, from the catalogue and the manifests."""
