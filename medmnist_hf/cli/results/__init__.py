"""The commands that score predictions and compare results."""
