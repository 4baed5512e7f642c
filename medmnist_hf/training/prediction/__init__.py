"""Predict images with the model of a finished run."""
