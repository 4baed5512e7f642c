"""The errors a user may see: each message is one line saying what is wrong, where, and what to do.

Messages quote files, servers and other packages. Every message passes through `one_line`, which makes it a single line
of limited length without control characters, tokens or passwords.
"""

import errno
import os
import re
import reprlib
from typing import Any, Final

from medmnist_hf.redaction import redact

_MAX_MESSAGE: Final = 2000
"""Longest message, in characters. Our longest one, on a file that four sources could not supply, has about 600."""

_MAX_RAW_TEXT: Final = 20_000
"""Characters of a text that are searched for secrets; of a longer one, such as a server's page, only the ends are."""

_MAX_VALUE: Final = 160

_LINE_ENDS: Final = re.compile(r"\s*[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]\s*")
UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that text on one line must not hold: control characters, line ends, marks that change the writing
direction, and surrogates, which no encoding can write."""


class MedMNISTError(Exception):
    """Base class of the errors that this project raises; commands print them without a traceback.

    The message passes through `one_line`.
    """

    def __init__(self, message: object) -> None:
        super().__init__(one_line(message))


class CatalogError(MedMNISTError):
    """A subset, size or split is unknown."""


class SourceError(MedMNISTError):
    """A source file is missing, cannot be fetched or has unexpected content."""


class ReadError(MedMNISTError):
    """The content of an NPZ file does not match the catalog."""


class BuildError(MedMNISTError):
    """A build cannot be written, resumed or trusted."""


class VerificationError(MedMNISTError):
    """A build differs from its source or its manifest."""


class ScoreError(MedMNISTError):
    """References and scores cannot be evaluated: wrong shape, values, ids, task or measure."""


class TrainingError(MedMNISTError):
    """A recipe, a model or its data cannot be used for training."""


class DivergenceError(TrainingError):
    """Training or a model produced numbers that are not finite, so no result is kept."""


class JobError(MedMNISTError):
    """Tasks cannot be handed to an engine, or the engine cannot be used."""


class HubError(MedMNISTError):
    """The Hub cannot be reached, refuses a request, or holds files that a push must not touch.

    Attributes:
        status: HTTP status; 0 if there was no response.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class UnreachableHubError(HubError):
    """The Hub did not answer, or may not be contacted."""


def first_line(error: BaseException | str) -> str:
    """Return the first line of another package's or the system's error, without a period, to quote in a message.

    Of an `OSError` only the system's text is kept, without number and path, since our message names the file. An error
    without a message is quoted by its class name. Secrets are removed first.
    """
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return redact(str(error)).strip().partition("\n")[0].removesuffix(".") or type(error).__name__


def is_full(error: BaseException) -> bool:
    """Return whether the disk is full, a quota is used up, or a file has reached the limit on its size."""
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def is_read_only(error: BaseException) -> bool:
    """Return whether the location cannot be written to: no permission, or a read-only file system."""
    return isinstance(error, OSError) and error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}


def cannot_write(what: object, error: OSError, remedy: str) -> str:
    """Return the message for a file or folder that could not be written; a full disk overrides the remedy."""
    if is_full(error):
        return f"no space left for {what} ({first_line(error)}): make room, then run the same command again"
    return f"cannot write {what} ({first_line(error)}): {remedy}"


def is_out_of_resources(error: BaseException) -> bool:
    """Return whether memory or file descriptors ran out, which says nothing about the file being read."""
    exhausted = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in exhausted)


def cannot_read(what: object, error: BaseException, remedy: str) -> str:
    """Return the message for a file that could not be read; a lack of resources or permission overrides the remedy."""
    if is_out_of_resources(error):
        remedy = "close other programs or raise the limit (ulimit), then run again"
    elif isinstance(error, PermissionError):
        remedy = "check its permissions"
    return f"cannot read {what} ({first_line(error)}): {remedy}"


def one_line(text: object) -> str:
    """Make a text one line that is safe to print: line ends become spaces, other control characters are escaped.

    Secrets are removed first, by `redaction.redact`. A text of more than 2,000 characters loses its middle.
    """
    redacted = redact(_cut_middle(str(text), _MAX_RAW_TEXT))
    return _cut_middle(escape_unprintable(_LINE_ENDS.sub(" ", redacted)), _MAX_MESSAGE)


def _cut_middle(text: str, limit: int) -> str:
    """Shorten a text that is too long; its end is kept because that is where a message says what to do."""
    return text if len(text) <= limit else f"{text[: limit * 2 // 3]} ... {text[-limit // 3 :]}"


def escape_unprintable(text: str) -> str:
    r"""Escape the unprintable characters of a text, as in ``\x1b``."""
    return UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


class _Repr(reprlib.Repr):
    """`reprlib` for integers of any size: Python refuses to print more than 4,300 digits."""

    def repr_int(self, x: int, level: int) -> str:
        return super().repr_int(x, level) if x.bit_length() <= 256 else f"an integer of {x.bit_length():,} bits"


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun, e.g. ``1 task`` or ``1,000 tasks``.

    Args:
        number: The number.
        noun: The noun for one.
        plural: The noun for others, if it is not `noun` with an s.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def shorten(value: Any) -> str:
    """Return the `repr` of a value from an untrusted file, cut to 160 characters, to quote in a message."""
    text = _REPR.repr(value)
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}..."


_REPR: Final = _Repr()
_REPR.maxlevel = 3
_REPR.maxstring = _REPR.maxother = 60
