"""Run a recipe: train each seed, select on validation, score once on test, and write everything into a folder.

The folder is described in `medmnist_hf.training.run_folder`. It is made once all checks have passed. A finished seed
is not run again; an interrupted one resumes from its last checkpoint. An interrupted AutoML search leaves its best
model so far, marked partial, and counts as unfinished. Under ``accelerate launch`` or ``torchrun`` all processes train
and the first one writes. Only one run at a time can use a folder.
"""

import os
from pathlib import Path
from typing import Final

import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from transformers.utils.logging import disable_progress_bar

from medmnist_hf.errors import TrainingError
from medmnist_hf.hub.client import apply_hub_limits
from medmnist_hf.training.joint.results import JointResult
from medmnist_hf.training.recipe import Recipe, unread_options
from medmnist_hf.training.results import RunResult
from medmnist_hf.training.run_folder import RunFolder, pin_files
from medmnist_hf.training.sessions.joint import JointSession
from medmnist_hf.training.sessions.session import Result, Seed, Session, SingleSession, run_in
from medmnist_hf.training.tracking import check_tracker

DEVICE: Final = "ACCELERATE_TORCH_DEVICE"
"""Environment variable from which accelerate reads the device of a process."""


def process_state(device: str = "auto") -> PartialState:
    """The state of the processes that share a run: one, or as many as a launcher started.

    Without an explicit ``cpu``, accelerate treats several processes on a CPU as independent main processes.

    Args:
        device: ``auto`` (an accelerator, if available), ``cpu``, or an accelerator such as ``cuda``, ``cuda:1`` or
            ``mps``.

    Raises:
        TrainingError: The device is not available, or a device is named although a launcher assigns devices.
    """
    if device not in {"auto", "cpu"}:
        _check_device(device)
    if device != "auto":
        os.environ[DEVICE] = device
    PartialState._reset_state()
    processes = PartialState(cpu=device == "cpu" or not torch.accelerator.is_available())
    if device not in {"auto", "cpu"} and processes.num_processes > 1:
        raise TrainingError(f"device is {device}, but {processes.num_processes} processes were launched: leave it out")
    return processes


def _check_device(name: str) -> None:
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    names = []
    if accelerator is not None:
        kind = accelerator.type
        names = [kind, *(f"{kind}:{index}" for index in range(torch.accelerator.device_count()))]
    if name not in names:
        raise TrainingError(f"device {name} is not available: choose auto, {', '.join(['cpu', *names])}")


def run(
    recipe: Recipe,
    out: str | Path,
    *,
    quiet: bool = False,
    force: bool = False,
    device: str = "auto",
    workers: int | None = None,
) -> RunResult:
    """Run a recipe for all its seeds.

    Without matplotlib, no figures are drawn and a warning is logged. If another process is running in the folder, wait
    for it, unless this process was started by a launcher together with others.

    Args:
        recipe: The recipe to run.
        out: Folder of the run; created if missing.
        quiet: Show no progress on the terminal.
        force: Replace an existing run in the folder, even one of another recipe or other data.
        device: Device to compute on, as for `process_state`.
        workers: Number of threads that make batches; 0 makes them in the training thread, None chooses.

    Returns:
        The results, as written to ``results.json``.

    Raises:
        TrainingError: The folder holds a run of another recipe, the recipe cannot be carried out, its tracker cannot
            be used, or the disk is full.
        DivergenceError: The scores or the loss of a seed were not finite; the other seeds were run.
        BusyError: Another process is running in the folder, and this one was launched together with others.
        MedMNISTError: The data or a file of the user's code cannot be read, or the folder cannot be locked.
    """
    if recipe.is_joint:
        raise TrainingError(f"{recipe.dataset} names several subsets: use run_joint")
    return _run(SingleSession, recipe, out, quiet=quiet, force=force, device=device, workers=workers)


def run_joint(
    recipe: Recipe,
    out: str | Path,
    *,
    quiet: bool = False,
    force: bool = False,
    device: str = "auto",
    workers: int | None = None,
) -> JointResult:
    """Run a recipe that names several subsets: train one network on them, and score each among its own classes.

    Args:
        recipe: As for `run`, as are the others.
        out: Folder of the run; prediction files and figures are in folders named after the subsets.
        quiet: Show no progress on the terminal.
        force: Replace an existing run in the folder.
        device: Device to compute on.
        workers: Number of threads that make batches.

    Returns:
        The results, as written to ``results.json``.

    Raises:
        TrainingError: As for `run`, or the recipe sets options that only one subset can have.
        MedMNISTError: As for `run`.
    """
    single = unread_options(recipe, ("mixup", "cutmix", "corruptions", "probe_first"))
    if single or not recipe.is_joint:
        name = next(iter(single), recipe.dataset)
        raise TrainingError(f"{name} is only for one subset: {'leave it out' if single else 'use run'}")
    return _run(JointSession, recipe, out, quiet=quiet, force=force, device=device, workers=workers)


def _run(
    kind: type[Session[Seed, Result]],
    recipe: Recipe,
    out: str | Path,
    *,
    quiet: bool,
    force: bool,
    device: str,
    workers: int | None,
) -> Result:
    if workers is not None and workers < 0:
        raise TrainingError(f"workers is {workers}: must be 0 or more")
    check_tracker(recipe)
    apply_hub_limits()
    disable_progress_bar()  # type: ignore[no-untyped-call]  # one bar per saved file
    previous_device = os.environ.get(DEVICE)
    try:
        return run_in(kind, RunFolder(Path(out), pin_files(recipe), force), process_state(device), quiet, workers)
    finally:
        if previous_device is None:
            os.environ.pop(DEVICE, None)
        else:
            os.environ[DEVICE] = previous_device
