"""Names of functions in Python files of the user, like ``my.py:build``: a network, or an augmentation. Nothing is run.

A pinned name, ``my.py:build#0123456789abcdef``, ends with the first digits of the SHA-256 of the file, so that another
version of the file has another name.

Example:
    >>> public_code("work/my.py:build#0123456789abcdef"), is_code("timm/resnet18")
    ('my.py:build#0123456789abcdef', False)
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from medmnist_hf.errors import TrainingError, cannot_read, shorten
from medmnist_hf.files import expand_user, read_document

MODEL_FILE: Final = "model_file"
"""The option for a function that makes a network; the field ``model`` of a recipe holds it."""
AUGMENTATION_FILE: Final = "augmentation_file"
"""The option for a function that augments batches."""

_DIGITS: Final = 16
_NAME: Final = re.compile(rf"(?P<file>[^\0]*\.py):(?P<function>[^\W\d]\w*)(?:\#(?P<digest>[0-9a-f]{{{_DIGITS}}}))?")


def is_code(name: str) -> bool:
    """Whether a name is that of a function in a Python file, pinned or not."""
    return _NAME.fullmatch(name) is not None


def is_pinned(name: str) -> bool:
    """Whether a name is that of one version of a file."""
    match = _NAME.fullmatch(name)
    return match is not None and match["digest"] is not None


def public_code(name: str) -> str:
    """Remove the folder from the name of a function; other names are returned unchanged."""
    match = _NAME.fullmatch(name)
    return name if match is None else Path(match["file"]).name + name[match.end("file") :]


def same_code(first: str, second: str) -> bool:
    """Whether two pinned names have the same function and digest; the files may have different names."""
    return first.rpartition(":")[2] == second.rpartition(":")[2]


def check_code(name: object, option: str) -> re.Match[str]:
    """Parse the name of a function. Raises `TrainingError`, which names the option, if it is not one."""
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise TrainingError(f"{option} is {shorten(name)}: give a Python file and a function in it, as my.py:NAME")
    return match


def rename_model_file(values: Mapping[Any, Any], where: str) -> dict[Any, Any]:
    """Replace `MODEL_FILE` in options of a recipe by ``model``, the field that it stands for.

    Raises:
        TrainingError: Both are given, or it is not the name of a function.
    """
    if values.get(MODEL_FILE) is None:
        return {name: value for name, value in values.items() if name != MODEL_FILE}
    if values.get("model") is not None:
        raise TrainingError(f"{where}: {MODEL_FILE} is another name of model: give only one of them")
    check_code(values[MODEL_FILE], MODEL_FILE)
    return {"model" if name == MODEL_FILE else name: value for name, value in values.items()}


def pin_code(name: str, option: str) -> str:
    """Add the digest of the file to a name; the file is read, but not run.

    Args:
        name: A name. The digest of a pinned one is compared with that of the file.
        option: The option that has it, for error messages.

    Raises:
        TrainingError: It is not a name of this kind, the file cannot be read, or its digest differs.
    """
    match = check_code(name, option)
    return f"{match['file']}:{match['function']}#{code_digest(read_code(match, option))}"


def read_code(match: re.Match[str], option: str) -> bytes:
    """Read the file of a name. Raises `TrainingError` if it cannot be read, or its digest is not that of the name."""
    path = expand_user(match["file"])
    try:
        content = read_document(path)
    except OSError as error:
        raise TrainingError(cannot_read(path, error, f"give --{dashed(option)} FILE.py:NAME")) from None
    if match["digest"] not in {None, digest := code_digest(content)}:
        raise TrainingError(
            f"{path} has changed: its SHA-256 begins with {digest}, not {match['digest']}: restore it, or name the "
            f"new version by --{dashed(option)} {match['file']}:{match['function']}"
        )
    return content


def dashed(option: str) -> str:
    """An option as it is typed on the command line, without the leading dashes."""
    return option.replace("_", "-")


def code_digest(content: bytes) -> str:
    """The digits that a pinned name has for the content of a file."""
    return hashlib.sha256(content).hexdigest()[:_DIGITS]
