"""Checkpoints that a training resumes from: whole, as a list of digests that is written last says, or not used."""

import contextlib
import json
import logging
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from medmnist_hf.documents import parse_json
from medmnist_hf.errors import TrainingError, first_line
from medmnist_hf.files import read_document, sha256_of, write_atomically
from medmnist_hf.typed_json import decode

LIST_NAME: Final = "checkpoint.json"
"""The file of a checkpoint that lists all others; it is written last."""

_NAME: Final = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-([0-9]{{1,18}})")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the list of a checkpoint says.

    Attributes:
        step: Optimizer steps that were done.
        best: The step whose checkpoint holds the best epoch so far; None where no epoch was the best.
        seconds: Seconds that training had taken, in all processes that resumed each other.
        processes: Number of processes that trained together.
        files: Name of a file -> its SHA-256.
    """

    step: int
    best: int | None
    seconds: float
    processes: int
    files: dict[str, str]


def folder_of(step: int, folder: Path) -> Path:
    """Where the checkpoint of a step lies in a folder of checkpoints, wherever that folder has been moved to."""
    return folder / f"{PREFIX_CHECKPOINT_DIR}-{step}"


def complete(step: int, folder: Path, *, best: int | None, seconds: float, processes: int) -> None:
    """Write the list of a checkpoint whose files are all there, which makes it whole; then remove those out of use.

    The last checkpoint and that of the best epoch stay. Where they are the same one, so does the one before, to resume
    from should this one be damaged.

    Args:
        step: Its step.
        folder: The folder of checkpoints.
        best: See `Checkpoint`.
        seconds: See `Checkpoint`.
        processes: See `Checkpoint`.

    Raises:
        OSError: The list cannot be written.
    """
    path = folder_of(step, folder)
    files = {each.name: sha256_of(each) for each in sorted(path.iterdir()) if each.name != LIST_NAME}
    listed = Checkpoint(step, best, seconds, processes, files)
    write_atomically(path / LIST_NAME, json.dumps(asdict(listed), indent=2) + "\n")
    checkpoints = _checkpoints(folder)
    in_use = {step, best}
    earlier = max((other for other in checkpoints if other < step), default=None)
    if best in {None, step} and earlier is not None:
        with contextlib.suppress(OSError, ValueError):
            in_use |= {earlier, _read(checkpoints[earlier]).best}
    for other in checkpoints.keys() - in_use:
        shutil.rmtree(checkpoints[other], ignore_errors=True)


def last_checkpoint(folder: Path, processes: int | None = None) -> Checkpoint | None:
    """The last whole checkpoint in a folder; those after it are removed, with a line each that says why.

    A checkpoint is whole if its list is there, names this step, and fits all files; and if the checkpoint of the best
    epoch so far, which a training that resumes may deliver, is whole as well. Files and folders with other names are
    left alone.

    Args:
        folder: The folder of checkpoints, which may be missing.
        processes: Number of processes that are to resume from it; None where none is.

    Raises:
        TrainingError: It was written by another number of processes, whose steps are others.
    """
    checkpoints = _checkpoints(folder)
    faults = {step: _fault_of(path, step) for step, path in checkpoints.items()}
    for step in sorted(checkpoints, reverse=True):
        path, fault = checkpoints[step], faults[step]
        if not fault:
            listed = _read(path)
            if listed.best is None or faults.get(listed.best, "it is missing") == "":
                if processes not in {None, listed.processes}:
                    raise TrainingError(
                        f"{path} was written by {listed.processes} processes, and there are {processes} now: "
                        f"start {listed.processes}, or remove {folder} to begin anew"
                    )
                return listed
            fault = f"{folder_of(listed.best, folder).name}, its best epoch, is not whole"
        _log.warning("checkpoint %s is not whole (%s): it is removed, and the one before is used if any", path, fault)
        shutil.rmtree(path)
    return None


def _checkpoints(folder: Path) -> dict[int, Path]:
    """Step -> folder, of all that bear the name of a checkpoint."""
    if not folder.is_dir():
        return {}
    named = ((_NAME.fullmatch(path.name), path) for path in sorted(folder.iterdir()))
    found = ((int(match[1]), path) for match, path in named if match and path.is_dir() and not path.is_symlink())
    return {step: path for step, path in found if path == folder_of(step, folder)}


def _fault_of(path: Path, step: int) -> str:
    """Why a checkpoint is not whole; empty if it is."""
    try:
        listed = _read(path)
        if listed.step != step:
            return f"it is of step {listed.step}"
        for name, digest in listed.files.items():
            if not _is_plain(path / name):
                return f"{name} is missing"
            if sha256_of(path / name) != digest:
                return f"{name} is damaged"
    except FileNotFoundError:
        return f"it has no {LIST_NAME}, so its writing was interrupted"
    except (OSError, ValueError) as error:
        return first_line(error)
    return ""


def _read(path: Path) -> Checkpoint:
    """The list of a checkpoint; raises an `OSError` or a `ValueError` where it has none."""
    text = read_document(path / LIST_NAME)
    listed: Checkpoint = decode(parse_json(text), Checkpoint, LIST_NAME)
    return listed


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
