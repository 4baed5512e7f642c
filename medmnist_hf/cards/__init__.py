"""Data set cards: README, Croissant description and eval.yaml of a subset, from the catalog and build manifests."""

from medmnist_hf.extras import require_modules

require_modules("build", "bibtexparser", "jinja2")
