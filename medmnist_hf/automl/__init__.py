"""AutoML engines, each in its own process and optionally its own environment; data is exchanged through files."""
