"""Training: models, transforms, recipes and probes; the only part of the package that imports torch."""
