"""One run of a recipe: each seed trained, chosen on validation, scored once on test, and left in a folder.

A run's folder holds ``recipe.yaml``, a folder for each seed and, once all are done, ``results.json``. A seed that is
done is not run again; one that was interrupted goes on from its last checkpoint. Under ``accelerate launch`` or
``torchrun`` all processes train, and the first one writes.
"""

import errno
import json
import shutil
import time
from pathlib import Path
from typing import Any, Final

from accelerate import PartialState  # type: ignore[import-untyped]
from safetensors import SafetensorError
from transformers import set_seed
from transformers.utils.logging import disable_progress_bar

from medmnist_hf.arrays import load_arrays
from medmnist_hf.catalog import SPLITS
from medmnist_hf.errors import TrainingError
from medmnist_hf.files import write_atomically
from medmnist_hf.loading import NAMESPACE
from medmnist_hf.results import write_result
from medmnist_hf.training.methods import CHECKPOINTS, METHODS, Fitted, Job
from medmnist_hf.training.models import Built, save_model
from medmnist_hf.training.outcomes import Outcome, outcome_of, read_outcome, summary, to_json, write_outcome
from medmnist_hf.training.recipe import Recipe, make_recipe
from medmnist_hf.training.trainer import last_checkpoint

RECIPE_NAME: Final = "recipe.yaml"
RESULTS_NAME: Final = "results.json"
BEST: Final = "best"
LAST: Final = "last"


def run(recipe: Recipe, out: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Run a recipe on all its seeds.

    Args:
        recipe: What to do.
        out: Folder of the run; made where it is missing.
        quiet: No progress on the terminal.

    Returns:
        What ``results.json`` holds.

    Raises:
        TrainingError: The folder holds a run of another recipe, the recipe cannot be carried out, or the disk is full.
        MedMNISTError: The data cannot be read.
    """
    processes = PartialState()
    disable_progress_bar()  # type: ignore[no-untyped-call]  # of single files that are saved
    with processes.main_process_first():
        _claim(recipe, out)
        data = {
            split: load_arrays(
                recipe.dataset,
                recipe.size,
                split,
                recipe.root,
                namespace=recipe.namespace or NAMESPACE,
                revision=recipe.revision,
            )
            for split in SPLITS
        }
    job = Job(recipe, data, processes.device, quiet or not processes.is_main_process)
    outcomes = []
    for seed in recipe.seeds:
        done = read_outcome(out / f"seed-{seed}")
        processes.wait_for_everyone()  # all have looked before one writes
        outcomes.append(_run_seed(job, seed, out / f"seed-{seed}", processes) if done is None else done)
    text = to_json(summary(recipe, outcomes))
    if processes.is_main_process:
        write_atomically(out / RESULTS_NAME, text)
    results: dict[str, Any] = json.loads(text)
    return results


def _claim(recipe: Recipe, out: Path) -> None:
    """Note the recipe in its folder, which must not hold a run of another one; other seeds may be added."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / RECIPE_NAME
    if path.exists():
        before = make_recipe({"seeds": recipe.seeds}, config=path)
        names = [name for name in Recipe.__dataclass_fields__ if getattr(before, name) != getattr(recipe, name)]
        if names:
            raise TrainingError(
                f"{out} holds a run with another {', '.join(names)}: name another folder with --out, or remove it"
            )
    write_atomically(path, recipe.to_yaml())


def _run_seed(job: Job, seed: int, folder: Path, processes: PartialState) -> Outcome:
    """One seed from its start, or its last checkpoint, to its outcome in its folder."""
    folder.mkdir(exist_ok=True)
    begun = time.monotonic()
    set_seed(seed)
    try:
        fitted = METHODS[job.recipe.method](job, seed, folder)
        outcome = _outcome(job, seed, fitted, time.monotonic() - begun)
        if processes.is_main_process:
            _leave(job, outcome, fitted, folder)
    except (OSError, RuntimeError, SafetensorError) as error:
        if not _no_space(error):
            raise
        last_checkpoint(folder / CHECKPOINTS)  # removes the one that was being written
        raise TrainingError(f"no space left for {folder}: make room, then run the same command to go on") from None
    processes.wait_for_everyone()
    return outcome


def _outcome(job: Job, seed: int, fitted: Fitted, seconds: float) -> Outcome:
    scored = {split: (job.data[split].labels, scores) for split, scores in fitted.scores.items()}
    return outcome_of(job.recipe, seed, scored, facts=fitted.facts | {"seconds": round(seconds, 2)})


def _leave(job: Job, outcome: Outcome, fitted: Fitted, folder: Path) -> None:
    """Write predictions, models and, last, the outcome: its file says that the seed is done."""
    recipe, flag = job.recipe, job.recipe.dataset
    for split, scores in fitted.scores.items():
        write_result(folder, flag, recipe.size, split, scores, job.data[split].labels, run=f"seed{outcome.seed}")
    if fitted.built is not None:
        _replace(fitted.built, folder / BEST)
    _keep_last(folder / CHECKPOINTS, folder / LAST)
    write_outcome(folder, outcome)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def _replace(built: Built, folder: Path) -> None:
    """Save a model in place of the one that is there, as a whole."""
    fresh = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    save_model(built, fresh)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def _keep_last(checkpoints: Path, last: Path) -> None:
    """Of the last checkpoint keep weights and configuration; the rest only served to go on."""
    found = last_checkpoint(checkpoints)
    if found is None:
        return
    last.mkdir(exist_ok=True)
    for path in found.iterdir():
        if path.suffix == ".safetensors" or path.name.endswith("config.json"):
            shutil.copyfile(path, last / path.name)


def _no_space(error: BaseException) -> bool:
    """A full disk or a limit on files, as Python, safetensors and torch say it."""
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return True
    words = ("No space left", "quota exceeded", "File too large", "PytorchStreamWriter failed writing")
    return any(word in str(error) for word in words)
