"""One run of a recipe: each seed trained, chosen on validation, scored once on test, and left in a folder.

A run's folder holds ``recipe.yaml``, ``data.json`` with what the data is, a folder for each seed and, once all are
done, ``results.json``, which of several seeds also has the ensemble; the weights of the seed that is to be published
then have a card beside them. A seed that is done is not run again; one that was interrupted resumes from its last
checkpoint. The search of an AutoML engine that was interrupted leaves its best so far marked partial, which counts as
not done. Under ``accelerate launch`` or ``torchrun`` all processes train, and the first one writes. Runs on one folder
exclude each other.
"""

import contextlib
import logging
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from safetensors import SafetensorError
from transformers import set_seed
from transformers.utils.logging import disable_progress_bar

from medmnist_hf.array_types import FloatArray
from medmnist_hf.catalog import SPLITS
from medmnist_hf.data.arrays import read_arrays
from medmnist_hf.data.configs import open_config
from medmnist_hf.errors import DivergenceError, TrainingError, first_line, is_full
from medmnist_hf.files import read_document, sole_process, write_atomically
from medmnist_hf.hub.client import limit_waiting
from medmnist_hf.scoring.predictions import Predictions
from medmnist_hf.training.ensemble import ensemble, write_scores
from medmnist_hf.training.methods.base import CHECKPOINTS, Fitted, Run
from medmnist_hf.training.methods.resume import folder_of, last_checkpoint
from medmnist_hf.training.methods.saved_model import check_saved
from medmnist_hf.training.models.saving import Built, save_model
from medmnist_hf.training.recipe import Recipe, make_recipe
from medmnist_hf.training.registry import method
from medmnist_hf.training.report.figures import can_draw, write_card, write_figures
from medmnist_hf.training.results import RESULTS_NAME, DataRecord, RunResult, SeedResult, read_seed, write_seed
from medmnist_hf.training.scoring import check_scores, score_seed, sum_up
from medmnist_hf.training.tracking import check_tracker

_log = logging.getLogger(__name__)

RECIPE_NAME: Final = "recipe.yaml"
DATA_NAME: Final = "data.json"
"""What the data is that the run reads, noted before it is."""
LOCK_NAME: Final = "run.lock"
"""The lock of who runs; it stays in the folder."""

_NO_SPACE: Final = re.compile(
    "No space left|quota exceeded|File too large"  # safetensors
    "|PytorchStreamWriter failed writing|unexpected pos"  # torch: less was written than it gave
)

BEST: Final = "best"
LAST: Final = "last"


def launched() -> PartialState:
    """The processes that share a run: one, or as many as a launcher has started.

    By itself accelerate takes several on CPUs for separate ones, each of which would be the first.
    """
    return PartialState(cpu=not torch.accelerator.is_available())


def run(recipe: Recipe, out: Path, *, quiet: bool = False) -> RunResult:
    """Run a recipe on all its seeds.

    Without matplotlib no figures are drawn, which is logged. Where another process runs in the folder, it is waited
    for; several processes under a launcher do not wait.

    Args:
        recipe: What to do.
        out: Folder of the run; made where it is missing.
        quiet: No progress on the terminal.

    Returns:
        What the run scored, as ``results.json`` holds it.

    Raises:
        TrainingError: The folder holds a run of another recipe, the recipe cannot be carried out, what it reports to
            cannot be used, or the disk is full.
        DivergenceError: A seed gave numbers that are not finite; the others are done.
        BusyError: Another process runs in the folder, and this one was launched with others.
        MedMNISTError: The data cannot be read, or the folder cannot be locked.
    """
    check_tracker(recipe)
    limit_waiting()
    processes = launched()
    disable_progress_bar()  # type: ignore[no-untyped-call]  # of single files that are saved
    with saying_where_space_ends(out), _sole_run(out, processes):
        return _run(recipe, out, processes, quiet=quiet)


@contextlib.contextmanager
def _sole_run(out: Path, processes: PartialState) -> Iterator[None]:
    """Hold the lock of a run's folder, in the first process for all that a launcher has started."""
    if not processes.is_main_process:
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    # The others of a launcher wait at a barrier, which ends them with a traceback after minutes.
    with sole_process(out / LOCK_NAME, f"running in {out}", wait=processes.num_processes == 1):
        yield


def _run(recipe: Recipe, out: Path, processes: PartialState, *, quiet: bool) -> RunResult:
    """The run, in a folder that no other process runs in."""
    with processes.main_process_first():
        config = open_config(recipe.source, recipe.size, recipe.root, revision=recipe.revision)
        record = DataRecord.of(config)
        _claim(recipe, record, out)
        data = {split: read_arrays(config, split) for split in SPLITS}
    shared = Run(recipe, data, record, processes.device, quiet or not processes.is_main_process)
    folders = {seed: out / f"seed-{seed}" for seed in recipe.seeds}
    earlier = {seed: _whole(read_seed(folder)) for seed, folder in folders.items()}
    processes.wait_for_everyone()  # all have looked before one writes
    drawn = processes.is_main_process and None in earlier.values() and can_draw()
    try:
        seeds = _run_seeds(shared, earlier, folders, processes, drawn)
    except KeyboardInterrupt:
        kept = [seed for seed in map(read_seed, folders.values()) if seed]
        if any(seed.facts.partial for seed in kept):
            write_atomically(out / RESULTS_NAME, sum_up(recipe, kept).to_json())
        raise
    together = ensemble(shared, folders, out) if processes.is_main_process else None
    result = sum_up(recipe, seeds, together)
    if processes.is_main_process:
        write_card({seed: folder / BEST for seed, folder in folders.items()}, result)
        write_atomically(out / RESULTS_NAME, result.to_json())
    return result


def _whole(result: SeedResult | None) -> SeedResult | None:
    """The result of a seed that is done; None where its search was interrupted, too."""
    return None if result is None or result.facts.partial else result


def _claim(recipe: Recipe, data: DataRecord, out: Path) -> None:
    """Note recipe and data in their folder, which must not hold a run of others; other seeds may be added."""
    path = out / RECIPE_NAME
    if path.exists():
        earlier = make_recipe({"seeds": recipe.seeds}, config=path)
        names = [name for name in Recipe.__dataclass_fields__ if getattr(earlier, name) != getattr(recipe, name)]
        if names:
            raise TrainingError(
                f"{out} holds a run with another {', '.join(names)}: name another folder with --out, or remove it"
            )
    noted = out / DATA_NAME
    record = data.to_json().encode()
    try:
        before = read_document(noted) if noted.exists() else record
    except OSError as error:
        raise TrainingError(f"cannot read {noted} ({first_line(error)}): name another folder with --out") from None
    if before != record:
        raise TrainingError(
            f"{out} holds a run on other data than {data.provenance} {data.source.file}, see {noted.name} there: "
            "name another folder with --out, or remove it"
        )
    write_atomically(noted, record)
    write_atomically(path, recipe.to_yaml())


def _run_seeds(
    shared: Run,
    earlier: Mapping[int, SeedResult | None],
    folders: Mapping[int, Path],
    processes: PartialState,
    drawn: bool,
) -> list[SeedResult]:
    """All seeds that are not done; those that diverge do not keep the others from being run, and are reported then."""
    seeds, diverged = [], []
    for seed, done in earlier.items():
        try:
            seeds.append(done or _run_seed(shared, seed, folders[seed], processes, drawn))
        except DivergenceError as error:
            diverged.append(f"seed {seed}: {error}")
    if diverged:
        raise DivergenceError("; ".join(diverged))
    return seeds


def _run_seed(shared: Run, seed: int, folder: Path, processes: PartialState, drawn: bool) -> SeedResult:
    """One seed from its start, or its last checkpoint, to its result in its folder."""
    folder.mkdir(exist_ok=True)
    begun = time.monotonic()
    set_seed(seed)
    with saying_where_space_ends(folder):
        fitted: Fitted = method(shared.recipe.method).fit(shared, seed, folder)
        seconds = round(fitted.earlier_seconds + time.monotonic() - begun, 2)
        predictions = {
            split: check_scores(shared.recipe, shared.data[split].labels, scores)
            for split, scores in fitted.scores.items()
        }
        facts = fitted.facts | {"seconds": seconds}
        result = score_seed(shared.recipe, seed, predictions, facts=facts, data=shared.record)
        if processes.is_main_process:
            _write_seed(shared, result, fitted, folder, predictions if drawn else None)
    processes.wait_for_everyone()
    if fitted.stopped:
        raise KeyboardInterrupt
    return result


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
