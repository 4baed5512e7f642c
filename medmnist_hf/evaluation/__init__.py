"""Prediction files: read, written, scored against labels, compared and drawn."""
