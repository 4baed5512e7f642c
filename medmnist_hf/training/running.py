"""One run of a recipe: each seed trained, chosen on validation, scored once on test, and left in a folder.

What the folder holds is in `medmnist_hf.training.run_folder`; it is made once all that may be refused was checked. A
seed that is done is not run again; one that was interrupted resumes from its last checkpoint. The search of an AutoML
engine that was interrupted leaves its best so far marked partial, which counts as not done. Under ``accelerate
launch`` or ``torchrun`` all processes train, and the first one writes. Runs on one folder exclude each other.
"""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from safetensors import SafetensorError
from transformers import set_seed
from transformers.utils.logging import disable_progress_bar

from medmnist_hf import console
from medmnist_hf.array_types import FloatArray
from medmnist_hf.catalog import SPLITS
from medmnist_hf.data.arrays import read_arrays
from medmnist_hf.data.configs import open_config
from medmnist_hf.errors import DivergenceError, TrainingError, is_full
from medmnist_hf.files import sole_process, write_atomically
from medmnist_hf.hub.client import apply_hub_limits
from medmnist_hf.scoring.predictions import Predictions
from medmnist_hf.training.ensemble import ensemble, write_scores
from medmnist_hf.training.methods.base import Fitted, Run
from medmnist_hf.training.methods.resume import folder_of, last_checkpoint
from medmnist_hf.training.methods.saved_model import check_saved
from medmnist_hf.training.models.saving import Built, save_model
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.registry import method
from medmnist_hf.training.report.figures import can_draw, write_card, write_figures
from medmnist_hf.training.report.publishable import best_seed
from medmnist_hf.training.results import RESULTS_NAME, DataRecord, RunResult, SeedResult, read_seed, write_seed
from medmnist_hf.training.run_folder import BEST, CHECKPOINTS, LAST, LOCK_NAME, RunFolder, seed_folder
from medmnist_hf.training.scoring import check_scores, score_seed, sum_up
from medmnist_hf.training.tracking import check_tracker

_NO_SPACE: Final = re.compile(
    "No space left|quota exceeded|File too large"  # safetensors
    "|PytorchStreamWriter failed writing|unexpected pos"  # torch: less was written than it gave
)

DEVICE: Final = "ACCELERATE_TORCH_DEVICE"
"""Where accelerate looks for the device of a process."""


class _OvertakenError(Exception):
    """Another process has made the folder of the run while this one checked what it is to do."""


def launched(device: str = "auto") -> PartialState:
    """The processes that share a run, one or as many as a launcher has started, and where they compute.

    By itself accelerate takes several on CPUs for separate ones, each of which would be the first.

    Args:
        device: ``auto`` (an accelerator, if there is one), ``cpu``, or an accelerator such as ``cuda``, ``cuda:1`` or
            ``mps``.

    Raises:
        TrainingError: There is no such device here, or a launcher chooses the devices.
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
    there = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    names = (
        []
        if there is None
        else [there.type, *(f"{there.type}:{at}" for at in range(torch.accelerator.device_count()))]
    )
    if name not in names:
        raise TrainingError(f"there is no device {name} here: choose auto, {', '.join(['cpu', *names])}")


def run(
    recipe: Recipe,
    out: str | Path,
    *,
    quiet: bool = False,
    force: bool = False,
    device: str = "auto",
    workers: int | None = None,
) -> RunResult:
    """Run a recipe on all its seeds.

    Without matplotlib no figures are drawn, which is logged. Where another process runs in the folder, it is waited
    for; several processes under a launcher do not wait.

    Args:
        recipe: What to do.
        out: Folder of the run; made where it is missing.
        quiet: No progress on the terminal.
        force: Replace a run that the folder holds, also one of another recipe or other data.
        device: Where to compute, as for `launched`.
        workers: Threads that make batches; None chooses, 0 makes them in the thread that trains.

    Returns:
        What the run scored, as ``results.json`` holds it.

    Raises:
        TrainingError: The folder holds a run of another recipe, the recipe cannot be carried out, what it reports to
            cannot be used, or the disk is full.
        DivergenceError: A seed gave numbers that are not finite; the others are done.
        BusyError: Another process runs in the folder, and this one was launched with others.
        MedMNISTError: The data cannot be read, or the folder cannot be locked.
    """
    if workers is not None and workers < 0:
        raise TrainingError(f"workers is {workers}: must be 0 or more")
    check_tracker(recipe)
    apply_hub_limits()
    disable_progress_bar()  # type: ignore[no-untyped-call]  # of single files that are saved
    before = os.environ.get(DEVICE)
    try:
        return _run(RunFolder(Path(out), recipe, force), launched(device), quiet, workers)
    finally:
        if before is None:
            os.environ.pop(DEVICE, None)
        else:
            os.environ[DEVICE] = before


def _run(folder: RunFolder, processes: PartialState, quiet: bool, workers: int | None) -> RunResult:
    while True:
        with (
            saying_where_space_ends(folder.path),
            contextlib.ExitStack() as held,
            contextlib.suppress(_OvertakenError),
        ):
            return _Session(folder, processes, held, quiet or not processes.is_main_process).run(workers)


@dataclass(slots=True, eq=False)
class _Session:
    """One call of `run`, on a folder that it locks: at once if it is there, else when it is made."""

    folder: RunFolder
    processes: PartialState
    held: contextlib.ExitStack
    quiet: bool
    locked: bool = False
    claimed: bool = False

    @property
    def recipe(self) -> Recipe:
        return self.folder.recipe

    def lock(self) -> None:
        """Take the lock of the folder, in the first process for all that a launcher has started."""
        out, alone = self.folder.path, self.processes.num_processes == 1
        self.locked = True
        if self.processes.is_main_process:
            # The others of a launcher wait at a barrier, which ends them with a traceback after minutes.
            self.held.enter_context(sole_process(out / LOCK_NAME, f"running in {out}", wait=alone))

    def run(self, workers: int | None) -> RunResult:
        """The run, from what the folder holds to its results."""
        recipe, out, processes = self.recipe, self.folder.path, self.processes
        if out.is_dir():
            self.lock()
        with processes.main_process_first():
            config = open_config(recipe.source, recipe.size, recipe.root, revision=recipe.revision)
            record = DataRecord.of(config)
            self.folder.check(record)
            rows = ", ".join(f"{name} {count:,}" for name, count in record.rows.items())
            self.tell(f"  data     {config.where} ({record.provenance}): {rows} rows")
            data = {split: read_arrays(config, split) for split in SPLITS}
        self.tell(f"  device   {_device_text(processes.device)}")
        shared = Run(recipe, data, record, processes.device, self.quiet, workers, tell=self.tell)
        folders = {seed: seed_folder(out, seed) for seed in recipe.seeds}
        earlier = {seed: None if self.folder.force else _whole(read_seed(folder)) for seed, folder in folders.items()}
        processes.wait_for_everyone()  # all have looked before one writes
        drawn = processes.is_main_process and None in earlier.values() and can_draw()
        try:
            seeds = self._run_seeds(shared, earlier, folders, drawn)
        except KeyboardInterrupt:
            kept = [seed for seed in map(read_seed, folders.values()) if seed] if self.claimed else []
            if any(seed.facts.partial for seed in kept):
                write_atomically(out / RESULTS_NAME, sum_up(recipe, kept).to_json())
            raise
        self.claim(record)
        together = ensemble(shared, folders, out) if processes.is_main_process else None
        result = sum_up(recipe, seeds, together)
        if processes.is_main_process:
            write_card({seed: folder / BEST for seed, folder in folders.items()}, result)
            self.folder.link_best(best_seed(result).seed)
            write_atomically(out / RESULTS_NAME, result.to_json())
        return result

    def tell(self, line: str) -> None:
        """Show a line to a person who follows the run."""
        if not self.quiet:
            console.echo(line, err=True)

    def claim(self, record: DataRecord) -> None:
        """Make the folder that of the run, once."""
        if self.claimed:
            return
        self.claimed = True
        if self.processes.is_main_process:
            if not self.locked:
                out = self.folder.path
                out.mkdir(parents=True, exist_ok=True)
                self.lock()
                if self.processes.num_processes == 1 and any(path.name != LOCK_NAME for path in out.iterdir()):
                    raise _OvertakenError
            self.folder.claim(record)
        self.processes.wait_for_everyone()

    def _run_seeds(
        self, shared: Run, earlier: Mapping[int, SeedResult | None], folders: Mapping[int, Path], drawn: bool
    ) -> list[SeedResult]:
        """All seeds that are not done; those that diverge do not keep the others from being run."""
        seeds, diverged = [], []
        for at, (seed, done) in enumerate(earlier.items(), 1):
            self.tell(
                f"seed {at}/{len(earlier)}"
                + (f" (number {seed})" if seed != at - 1 else "")
                + (": done before" if done else "")
            )
            try:
                seeds.append(done or self._run_seed(replace(shared, is_first=at == 1), seed, folders[seed], drawn))
            except DivergenceError as error:
                diverged.append(f"seed {seed}: {error}")
        if diverged:
            raise DivergenceError("; ".join(diverged))
        return seeds

    def _run_seed(self, shared: Run, seed: int, folder: Path, drawn: bool) -> SeedResult:
        """One seed from its start, or its last checkpoint, to its result in its folder."""

        def claim() -> None:
            self.claim(shared.record)
            folder.mkdir(exist_ok=True)

        begun = time.monotonic()
        set_seed(seed)
        with saying_where_space_ends(folder):
            fitted: Fitted = method(shared.recipe.method).fit(replace(shared, claim=claim), seed, folder)
            claim()
            seconds = round(fitted.earlier_seconds + time.monotonic() - begun, 2)
            predictions = {
                split: check_scores(shared.recipe, shared.data[split].labels, scores)
                for split, scores in fitted.scores.items()
            }
            facts = fitted.facts | {"seconds": seconds}
            result = score_seed(shared.recipe, seed, predictions, facts=facts, data=shared.record)
            if self.processes.is_main_process:
                _write_seed(shared, result, fitted, folder, predictions if drawn else None)
        self.processes.wait_for_everyone()
        if fitted.stopped:
            raise KeyboardInterrupt
        return result


def _device_text(device: torch.device) -> str:
    """A device with its name, or the number of threads that torch computes with."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)" if device.type == "cpu" else str(device)


def _whole(result: SeedResult | None) -> SeedResult | None:
    """The result of a seed that is done; None where its search was interrupted, too."""
    return None if result is None or result.facts.partial else result


def _write_seed(
    shared: Run, result: SeedResult, fitted: Fitted, folder: Path, drawn: Mapping[str, Predictions] | None
) -> None:
    """Write scores, models, figures of ``drawn`` and, last, the result: its file says that the seed is done."""
    for split, scores in fitted.scores.items():
        write_scores(shared, folder, split, scores, f"seed{result.seed}")
    if fitted.built is not None:
        _replace(shared, fitted.built, fitted.scores["validation"], folder / BEST)
    _keep_last(folder / CHECKPOINTS, folder / LAST)
    if drawn is not None:
        write_figures(shared.recipe, result, folder, data=shared.data, predictions=drawn, built=fitted.built)
    write_seed(folder, result)
    if not result.facts.partial:
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def _replace(shared: Run, built: Built, scores: FloatArray, folder: Path) -> None:
    """Save a model in place of the one that is there, as a whole, once it is known to give its scores."""
    fresh = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    save_model(built, fresh)
    try:
        check_saved(shared, built, scores, fresh)
    except TrainingError:
        shutil.rmtree(fresh)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def _keep_last(checkpoints: Path, last: Path) -> None:
    """Of the last checkpoint keep weights and configuration; the rest only served to go on."""
    newest = last_checkpoint(checkpoints)
    if newest is None:
        return
    last.mkdir(exist_ok=True)
    for path in folder_of(newest.step, checkpoints).iterdir():
        if path.suffix == ".safetensors" or path.name.endswith("config.json"):
            shutil.copyfile(path, last / path.name)


@contextlib.contextmanager
def saying_where_space_ends(folder: Path) -> Iterator[None]:
    """Raise a `TrainingError` if the disk gets full; a checkpoint that was being written to a folder is removed."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if not _no_space(error):
            raise
        last_checkpoint(folder / CHECKPOINTS)
        raise TrainingError(f"no space left for {folder}: make room, then run the same command to go on") from None


def _no_space(error: BaseException) -> bool:
    """A full disk or a limit on files, as Python, safetensors and torch say it."""
    return is_full(error) or (not isinstance(error, OSError) and _NO_SPACE.search(str(error)) is not None)
