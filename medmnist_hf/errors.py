"""The one family of errors a person may see: each message is one line saying what, where and what to do."""


class MedMNISTError(Exception):
    """Base of every error this project raises on purpose; commands print it without a traceback."""


class CatalogError(MedMNISTError):
    """An unknown subset, size or split was asked for."""


class SourceError(MedMNISTError):
    """A source file is missing, cannot be fetched or is not what it claims to be."""


class ReadError(MedMNISTError):
    """An NPZ file does not hold what the catalogue says it must."""


class BuildError(MedMNISTError):
    """A build could not be written, resumed or trusted."""


class VerificationError(MedMNISTError):
    """What was built differs from its source or from its manifest."""


class ScoreError(MedMNISTError):
    """References and scores cannot be scored as given: wrong shape, values, ids, task or measure."""
