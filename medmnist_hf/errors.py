"""The one family of errors a person may see: each message is one line saying what, where and what to do."""

import os


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


class TrainingError(MedMNISTError):
    """A recipe, a model or its data cannot be trained as asked for."""


class HubError(MedMNISTError):
    """The Hub cannot be reached, refuses, or holds something a push must not touch.

    Attributes:
        status: HTTP status; 0 where no answer came or none was asked for.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def first_line(error: BaseException | str) -> str:
    """What an error of the system or of another package says, for a line of ours: its first line without a full stop.

    An `OSError` is cut to what the system says, without its number and path, since our line names what was read. An
    error without a message gives the name of its class.
    """
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error).strip().partition("\n")[0].removesuffix(".") or type(error).__name__
