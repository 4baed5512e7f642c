"""Errors that code written for the official package catches as built-in ones."""

from medmnist_hf.errors import MedMNISTError, SourceError


class RootError(SourceError, RuntimeError):
    """The folder or the data set does not exist, or cannot be downloaded."""


class ArgumentError(MedMNISTError, ValueError):
    """An argument has a value that is not valid."""
