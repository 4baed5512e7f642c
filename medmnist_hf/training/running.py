"""Run a recipe: train each seed, select on validation, score once on test, and write everything into a folder.

The folder is described in `medmnist_hf.training.run_folder`. It is made once all checks have passed. A finished seed
is not run again; an interrupted one resumes from its last checkpoint. An interrupted AutoML search leaves its best
model so far, marked partial, and counts as unfinished. Under ``accelerate launch`` or ``torchrun`` all processes train
and the first one writes. Only one run at a time can use a folder.
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
from medmnist_hf.training.data.few_labels import validation_rows
from medmnist_hf.training.ensemble import ensemble, write_scores
from medmnist_hf.training.methods.base import Fitted, Run
from medmnist_hf.training.methods.resume import checkpoint_folder, last_checkpoint
from medmnist_hf.training.methods.saved_model import check_saved
from medmnist_hf.training.models.saving import Built, save_model
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.registry import method
from medmnist_hf.training.report.figures import can_draw, write_card, write_figures
from medmnist_hf.training.report.publishable import best_seed
from medmnist_hf.training.results import RESULTS_NAME, DataRecord, RunResult, SeedResult, read_seed, write_seed
from medmnist_hf.training.run_folder import BEST, CHECKPOINTS, LAST, LOCK_NAME, RunFolder, seed_folder
from medmnist_hf.training.scoring import check_scores, score_seed, summarize
from medmnist_hf.training.tracking import check_tracker

_NO_SPACE: Final = re.compile(
    "No space left|quota exceeded|File too large"  # safetensors
    "|PytorchStreamWriter failed writing|unexpected pos"  # torch: a short write
)

DEVICE: Final = "ACCELERATE_TORCH_DEVICE"
"""Environment variable from which accelerate reads the device of a process."""


class _OvertakenError(Exception):
    """Another process made the folder of the run while this one was still checking."""


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
        MedMNISTError: The data cannot be read, or the folder cannot be locked.
    """
    if workers is not None and workers < 0:
        raise TrainingError(f"workers is {workers}: must be 0 or more")
    check_tracker(recipe)
    apply_hub_limits()
    disable_progress_bar()  # type: ignore[no-untyped-call]  # one bar per saved file
    previous_device = os.environ.get(DEVICE)
    try:
        return _run(RunFolder(Path(out), recipe, force), process_state(device), quiet, workers)
    finally:
        if previous_device is None:
            os.environ.pop(DEVICE, None)
        else:
            os.environ[DEVICE] = previous_device


def _run(folder: RunFolder, processes: PartialState, quiet: bool, workers: int | None) -> RunResult:
    while True:
        with (
            full_disk_as_error(folder.path),
            contextlib.ExitStack() as locks,
            contextlib.suppress(_OvertakenError),
        ):
            return _Session(folder, processes, locks, quiet or not processes.is_main_process).run(workers)


@dataclass(slots=True, eq=False)
class _Session:
    """One call of `run`. It locks the folder at once if it exists, otherwise when it makes it."""

    folder: RunFolder
    processes: PartialState
    locks: contextlib.ExitStack
    quiet: bool
    locked: bool = False
    claimed: bool = False

    @property
    def recipe(self) -> Recipe:
        return self.folder.recipe

    def lock(self) -> None:
        """Lock the folder; with a launcher, the first process does so for all."""
        out, alone = self.folder.path, self.processes.num_processes == 1
        self.locked = True
        if self.processes.is_main_process:
            # Other processes of a launcher wait at a barrier, which times out after minutes with a traceback.
            self.locks.enter_context(sole_process(out / LOCK_NAME, f"running in {out}", wait=alone))

    def run(self, workers: int | None) -> RunResult:
        """Run all unfinished seeds and write the results."""
        recipe, out, processes = self.recipe, self.folder.path, self.processes
        if out.is_dir():
            self.lock()
        with processes.main_process_first():
            config = open_config(recipe.source, recipe.size, recipe.root, revision=recipe.revision)
            record = DataRecord.of(config)
            self.folder.check(record)
            rows = ", ".join(f"{name} {count:,}" for name, count in record.rows.items())
            self.echo(f"  data     {config.where} ({record.provenance}): {rows} rows")
            data = {split: read_arrays(config, split) for split in SPLITS}
        self.echo(f"  device   {_describe_device(processes.device)}")
        shared = Run(
            *(recipe, data, record, processes.device, self.quiet, workers),
            echo=self.echo,
            rows=validation_rows(recipe, data),
        )
        folders = {seed: seed_folder(out, seed) for seed in recipe.seeds}
        finished = {
            seed: None if self.folder.force else _if_complete(read_seed(folder)) for seed, folder in folders.items()
        }
        processes.wait_for_everyone()  # all processes have read the folder before one writes
        draw = processes.is_main_process and None in finished.values() and can_draw()
        try:
            seeds = self._run_seeds(shared, finished, folders, draw)
        except KeyboardInterrupt:
            saved = [seed for seed in map(read_seed, folders.values()) if seed] if self.claimed else []
            if any(seed.facts.partial for seed in saved):
                write_atomically(out / RESULTS_NAME, summarize(recipe, saved).to_json())
            raise
        self.claim(record)
        ensemble_result = ensemble(shared, folders, out) if processes.is_main_process else None
        result = summarize(recipe, seeds, ensemble_result)
        if processes.is_main_process:
            write_card({seed: folder / BEST for seed, folder in folders.items()}, result)
            self.folder.link_best(best_seed(result).seed)
            write_atomically(out / RESULTS_NAME, result.to_json())
        return result

    def echo(self, line: str) -> None:
        """Print a line of progress."""
        if not self.quiet:
            console.echo(line, err=True)

    def claim(self, record: DataRecord) -> None:
        """Claim the folder for this run; further calls do nothing."""
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
        self, shared: Run, finished: Mapping[int, SeedResult | None], folders: Mapping[int, Path], draw: bool
    ) -> list[SeedResult]:
        """Run all unfinished seeds; if a seed diverges, the others still run."""
        seeds, diverged = [], []
        for at, (seed, result) in enumerate(finished.items(), 1):
            self.echo(
                f"seed {seed}"
                + (f" ({at} of {len(finished)})" if len(finished) > 1 else "")
                + (": already finished" if result else "")
            )
            try:
                seeds.append(result or self._run_seed(replace(shared, is_first=at == 1), seed, folders[seed], draw))
            except DivergenceError as error:
                diverged.append(f"seed {seed}: {error}")
        if diverged:
            raise DivergenceError("; ".join(diverged))
        return seeds

    def _run_seed(self, shared: Run, seed: int, folder: Path, draw: bool) -> SeedResult:
        """Run one seed, from its last checkpoint if it has one, and write its result."""

        def claim() -> None:
            self.claim(shared.record)
            folder.mkdir(exist_ok=True)

        start = time.monotonic()
        set_seed(seed)
        used = shared.for_seed(seed)
        for split, chosen in used.record.chosen.items():
            self.echo(f"  labels   {chosen.count:,} of {shared.record.rows[split]:,} rows of {split}")
        with full_disk_as_error(folder):
            fitted: Fitted = method(shared.recipe.method).fit(replace(used, claim=claim), seed, folder)
            claim()
            seconds = round(fitted.earlier_seconds + time.monotonic() - start, 2)
            predictions = {
                split: check_scores(shared.recipe, used.labels(split), scores)
                for split, scores in fitted.scores.items()
            }
            facts = fitted.facts | {"seconds": seconds}
            result = score_seed(shared.recipe, seed, predictions, facts=facts, data=used.record)
            if self.processes.is_main_process:
                _write_seed(used, result, fitted, folder, predictions if draw else None)
        self.processes.wait_for_everyone()
        if fitted.stopped:
            raise KeyboardInterrupt
        return result


def _describe_device(device: torch.device) -> str:
    """A device with its name, or the CPU with the number of threads that torch uses."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)" if device.type == "cpu" else str(device)


def _if_complete(result: SeedResult | None) -> SeedResult | None:
    """The result of a finished seed; None if its search was interrupted."""
    return None if result is None or result.facts.partial else result


def _write_seed(
    shared: Run, result: SeedResult, fitted: Fitted, folder: Path, to_draw: Mapping[str, Predictions] | None
) -> None:
    """Write scores, models, figures of `to_draw`, and last the result, which marks the seed as finished."""
    for split, scores in fitted.scores.items():
        write_scores(shared, folder, split, scores, f"seed{result.seed}")
    if fitted.built is not None:
        _replace_model(shared, fitted.built, fitted.scores["validation"], folder / BEST)
    _keep_last(folder / CHECKPOINTS, folder / LAST)
    if to_draw is not None:
        write_figures(
            shared.recipe, result, folder, data=shared.data, rows=shared.rows, predictions=to_draw, built=fitted.built
        )
    write_seed(folder, result)
    if not result.facts.partial:
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def _replace_model(shared: Run, built: Built, scores: FloatArray, folder: Path) -> None:
    """Save a model atomically over an existing one, after checking that the saved model reproduces the scores."""
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
    """Keep weights and configuration of the last checkpoint; its other files are needed only to resume."""
    newest = last_checkpoint(checkpoints)
    if newest is None:
        return
    last.mkdir(exist_ok=True)
    for path in checkpoint_folder(newest.step, checkpoints).iterdir():
        if path.suffix == ".safetensors" or path.name.endswith("config.json"):
            shutil.copyfile(path, last / path.name)


@contextlib.contextmanager
def full_disk_as_error(folder: Path) -> Iterator[None]:
    """Raise a `TrainingError` if the disk gets full, and remove a checkpoint in the folder that is incomplete."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if not _no_space(error):
            raise
        last_checkpoint(folder / CHECKPOINTS)
        raise TrainingError(f"no space left for {folder}: make room, then run the same command again") from None


def _no_space(error: BaseException) -> bool:
    """Whether an error of Python, safetensors or torch reports a full disk or a limit on file sizes."""
    return is_full(error) or (not isinstance(error, OSError) and _NO_SPACE.search(str(error)) is not None)
