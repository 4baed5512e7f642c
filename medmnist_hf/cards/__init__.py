"""Data set cards: README, Croissant description and eval.yaml of a subset, from the catalogue and the manifests."""

from medmnist_hf.extras import need

need("build", "bibtexparser", "jinja2")
