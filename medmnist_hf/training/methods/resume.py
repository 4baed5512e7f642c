"""Checkpoints to resume from. A list of digests, written last, shows that a checkpoint is complete."""

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
"""The file that lists all other files of a checkpoint; it is written last."""

_NAME: Final = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-([0-9]{{1,18}})")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The list of a checkpoint.

    Attributes:
        step: Number of optimizer steps.
        best: The step whose checkpoint holds the best epoch so far; None if no epoch was best.
        seconds: Seconds of training so far, including earlier processes that were resumed.
        processes: Number of processes that trained together.
        files: File name -> SHA-256.
    """

    step: int
    best: int | None
    seconds: float
    processes: int
    files: dict[str, str]


def checkpoint_folder(step: int, folder: Path) -> Path:
    """The folder of the checkpoint of a step within a folder of checkpoints."""
    return folder / f"{PREFIX_CHECKPOINT_DIR}-{step}"


def complete_checkpoint(step: int, folder: Path, *, best: int | None, seconds: float, processes: int) -> None:
    """Mark a checkpoint as complete by writing its list, and remove checkpoints that are no longer needed.

    The last checkpoint and that of the best epoch are kept. If they are the same, the previous one is kept too, as a
    fallback for a damaged checkpoint.

    Args:
        step: Step of the checkpoint.
        folder: The folder of checkpoints.
        best: See `Checkpoint`.
        seconds: See `Checkpoint`.
        processes: See `Checkpoint`.

    Raises:
        OSError: The list cannot be written.
    """
    path = checkpoint_folder(step, folder)
    files = {file.name: sha256_of(file) for file in sorted(path.iterdir()) if file.name != LIST_NAME}
    checkpoint = Checkpoint(step, best, seconds, processes, files)
    write_atomically(path / LIST_NAME, json.dumps(asdict(checkpoint), indent=2) + "\n")
    checkpoints = _checkpoints(folder)
    in_use = {step, best}
    earlier = max((other for other in checkpoints if other < step), default=None)
    if best in {None, step} and earlier is not None:
        with contextlib.suppress(OSError, ValueError):
            in_use |= {earlier, _read(checkpoints[earlier]).best}
    for other in checkpoints.keys() - in_use:
        shutil.rmtree(checkpoints[other], ignore_errors=True)


def last_checkpoint(folder: Path, processes: int | None = None) -> Checkpoint | None:
    """Find the last complete checkpoint in a folder; incomplete ones after it are removed with a warning.

    A checkpoint is complete if its list exists, names the right step and matches all files, and if the checkpoint of
    the best epoch so far, which a resumed training may return, is complete as well. Files and folders with other names
    are ignored.

    Args:
        folder: The folder of checkpoints, which may not exist.
        processes: Number of processes that will resume; None to skip this check.

    Raises:
        TrainingError: The checkpoint was written by another number of processes, for which steps differ.
    """
    checkpoints = _checkpoints(folder)
    faults = {step: _find_fault(path, step) for step, path in checkpoints.items()}
    for step in sorted(checkpoints, reverse=True):
        path, fault = checkpoints[step], faults[step]
        if not fault:
            checkpoint = _read(path)
            if checkpoint.best is None or faults.get(checkpoint.best, "it is missing") == "":
                if processes not in {None, checkpoint.processes}:
                    raise TrainingError(
                        f"{path} was written by {checkpoint.processes} processes, and there are {processes} now: "
                        f"start {checkpoint.processes}, or remove {folder} to start over"
                    )
                return checkpoint
            fault = f"{checkpoint_folder(checkpoint.best, folder).name}, its best epoch, is not complete"
        _log.warning("checkpoint %s is not complete (%s): removing it and using an earlier one, if any", path, fault)
        shutil.rmtree(path)
    return None


def _checkpoints(folder: Path) -> dict[int, Path]:
    """Step -> folder, for all folders named like a checkpoint."""
    if not folder.is_dir():
        return {}
    matches = ((_NAME.fullmatch(path.name), path) for path in sorted(folder.iterdir()))
    steps = ((int(match[1]), path) for match, path in matches if match and path.is_dir() and not path.is_symlink())
    return {step: path for step, path in steps if path == checkpoint_folder(step, folder)}


def _find_fault(path: Path, step: int) -> str:
    """Why a checkpoint is not complete; empty if it is."""
    try:
        checkpoint = _read(path)
        if checkpoint.step != step:
            return f"its list is of step {checkpoint.step}"
        for name, digest in checkpoint.files.items():
            if not _is_plain(path / name):
                return f"{name} is missing"
            if sha256_of(path / name) != digest:
                return f"{name} is damaged"
    except FileNotFoundError:
        return f"it has no {LIST_NAME}, so writing it was interrupted"
    except (OSError, ValueError) as error:
        return first_line(error)
    return ""


def _read(path: Path) -> Checkpoint:
    """Read the list of a checkpoint. Raises `OSError` or `ValueError` if it is missing or damaged."""
    text = read_document(path / LIST_NAME)
    checkpoint: Checkpoint = decode(parse_json(text), Checkpoint, LIST_NAME)
    return checkpoint


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
