"""Prediction files: reading, writing, scoring against labels, comparison and plots."""
