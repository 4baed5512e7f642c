"""Builds as files of other tools: one module per format."""
