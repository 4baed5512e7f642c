"""The one family of errors a person may see: each message is one line saying what, where and what to do.

Messages quote files, servers and other packages. Whatever these say, a message has one line, no control characters and
a limited length, and shows no token and no password: `one_line` sees to it, for every error raised here.
"""

import errno
import os
import re
import reprlib
from typing import Any, Final

from medmnist_hf.redaction import redact

_LONGEST: Final = 2000
"""Characters of a message; the longest of ours, on a file that four places did not give, has about 600."""

_LONGEST_READ: Final = 20_000
"""Characters of a text that are looked at to make a message: of a server's page of any size, the ends suffice."""

_LONGEST_VALUE: Final = 160

_LINE_ENDS: Final = re.compile(r"\s*[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]\s*")
UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What text of one line does not hold: control characters, line ends, what reverses the direction of reading, and
halves of characters, which no encoding can write."""


class MedMNISTError(Exception):
    """Base of every error this project raises on purpose; commands print it without a traceback.

    The message is made one line by `one_line`.
    """

    def __init__(self, message: object) -> None:
        super().__init__(one_line(message))


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


class DivergenceError(TrainingError):
    """A training or a model gave numbers that are not finite, so there is nothing to keep."""


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
    error without a message gives the name of its class. Secrets are taken out before the line is cut.
    """
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return redact(str(error)).strip().partition("\n")[0].removesuffix(".") or type(error).__name__


def is_full(error: BaseException) -> bool:
    """The system has no space left: on the disk, in the quota, or within the limit on the size of a file."""
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def is_read_only(error: BaseException) -> bool:
    """The system lets this user read only, there."""
    return isinstance(error, OSError) and error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}


def cannot_write(what: object, error: OSError, remedy: str) -> str:
    """The line for a file or folder that could not be written: a full disk is said, whatever the remedy otherwise."""
    if is_full(error):
        return f"no space left for {what} ({first_line(error)}): make room, then run the same command again"
    return f"cannot write {what} ({first_line(error)}): {remedy}"


def is_short(error: BaseException) -> bool:
    """The system has no memory left, or no more open files for this process: what was to be read may be sound."""
    short = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in short)


def cannot_read(what: object, error: BaseException, remedy: str) -> str:
    """The line for what could not be read: what the system is short of is said, whatever the remedy otherwise."""
    if is_short(error):
        remedy = "the system is short of it, end other programs or raise the limit (ulimit), then run again"
    elif isinstance(error, PermissionError):
        remedy = "check its permissions"
    return f"cannot read {what} ({first_line(error)}): {remedy}"


def one_line(text: object) -> str:
    """Text in one line that is safe to print: line ends are spaces, other control characters are escaped.

    Secrets are taken out first, by `redaction.redact`. What is longer than 2,000 characters loses its middle.
    """
    whole = redact(_cut(str(text), _LONGEST_READ))
    return _cut(escape_unprintable(_LINE_ENDS.sub(" ", whole)), _LONGEST)


def _cut(text: str, longest: int) -> str:
    """Text without its middle where it is too long; what to do stands at its end."""
    return text if len(text) <= longest else f"{text[: longest * 2 // 3]} ... {text[-longest // 3 :]}"


def escape_unprintable(text: str) -> str:
    r"""Text whose unprintable characters are escaped, as in ``\x1b``."""
    return UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


class _Repr(reprlib.Repr):
    """`reprlib` for values of any size: Python refuses to write whole numbers of more than 4,300 digits."""

    def repr_int(self, x: int, level: int) -> str:
        return super().repr_int(x, level) if x.bit_length() <= 256 else f"a whole number of {x.bit_length():,} bits"


def shorten(value: Any) -> str:
    """A value of an unknown file as it is quoted in a message: its `repr`, 160 characters at most."""
    text = _SHORT.repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


_SHORT: Final = _Repr()
_SHORT.maxlevel = 3
_SHORT.maxstring = _SHORT.maxother = 60
