"""Log a training to TensorBoard, Weights & Biases or Trackio.

TensorBoard and W&B write into the seed's folder. The integrations of `transformers` are not used: they write
TensorBoard events to the checkpoints, which are removed once a seed is finished, and join all seeds of a process in
one W&B run. Trackio keeps one database for all runs, which its dashboard reads.

Example:
    >>> from medmnist_hf.training.recipe import make_recipe
    >>> from medmnist_hf.training.tracking import check_tracker
    >>> check_tracker(make_recipe({"dataset": "pathmnist"}))  # report_to is none, so nothing is checked
"""

import contextlib
import dataclasses
import importlib.util
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

from huggingface_hub import get_token

from medmnist_hf.errors import TrainingError, first_line
from medmnist_hf.files import expand_user, read_document, write_atomically
from medmnist_hf.own_code.names import public_code
from medmnist_hf.training.recipe import Recipe

PROJECT: Final = "medmnist-hf"
"""Default project on W&B and Trackio, overridden by ``WANDB_PROJECT`` and ``TRACKIO_PROJECT``."""

TENSORBOARD: Final = "tensorboard"
"""Folder of TensorBoard events within that of a seed."""

ID_NAME: Final = "tracker.txt"
"""File in a seed's folder with the id of its W&B or Trackio run, which a resumed training continues."""


class Tracker(NamedTuple):
    """An open training log.

    Attributes:
        log: Called with values by name and their optimizer step.
        close: Called once, at the end.
    """

    log: Callable[[Mapping[str, float], int], None]
    close: Callable[[], None]


def check_tracker(recipe: Recipe) -> None:
    """Check before training that the recipe's tracker is installed, can be imported and is logged in.

    Raises:
        TrainingError: The tracker cannot be used; the message names the remedy.
    """
    name = recipe.report_to
    if name == "none":
        return
    if importlib.util.find_spec(name) is None:
        raise TrainingError(f"report_to {name}: {name} is not installed: pip install {name}")
    try:
        _CHECKS[name]()
    except TrainingError:
        raise
    except Exception as error:  # trackers raise anything; do not train without the requested log
        raise TrainingError(
            f"report_to {name}: cannot be used ({first_line(error)}): fix that, or leave out report_to"
        ) from None


@contextlib.contextmanager
def tracking(
    recipe: Recipe, folder: Path, seed: int, step: int
) -> Iterator[Callable[[Mapping[str, float], int], None]]:
    """Open the log of a training, or continue the log of an interrupted one.

    Args:
        recipe: The recipe, with ``report_to``.
        folder: The seed's folder.
        seed: The seed.
        step: Optimizer step from which training resumes, 0 for a new training. Values logged after it are dropped by
            TensorBoard and kept by W&B and Trackio.

    Yields:
        A function that logs values by name and their step. It skips values that are not finite, and with ``report_to:
        none`` all values.

    Raises:
        TrainingError: The log cannot be opened.
    """
    if recipe.report_to == "none":
        yield lambda values, at: None
        return
    try:
        tracker = _OPENERS[recipe.report_to](recipe, folder, seed, step)
    except Exception as error:
        raise TrainingError(f"report_to {recipe.report_to}: cannot be opened ({first_line(error)})") from None
    try:
        yield lambda values, at: tracker.log({k: v for k, v in values.items() if math.isfinite(v)}, at)
    finally:
        tracker.close()


def _tensorboard(recipe: Recipe, folder: Path, seed: int, step: int) -> Tracker:
    """Write events into the folder; events after the resumed step are marked as purged."""
    if not step:
        shutil.rmtree(folder / TENSORBOARD, ignore_errors=True)  # from a training that left no checkpoint
    writer_of: Any = import_module("torch.utils.tensorboard").SummaryWriter
    writer = writer_of(log_dir=str(folder / TENSORBOARD), purge_step=step + 1 if step else None)
    if not step:
        writer.add_text("recipe", f"```yaml\n{recipe.to_yaml()}```")

    def log(values: Mapping[str, float], at: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, at)
        writer.flush()  # keep the values if the run is killed

    return Tracker(log, writer.close)


def _wandb(recipe: Recipe, folder: Path, seed: int, step: int) -> Tracker:
    """Open a W&B run in the folder, online or, with ``WANDB_MODE=offline``, for a later ``wandb sync``."""
    wandb: Any = import_module("wandb")
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        name=_name(folder, seed),
        group=folder.parent.name,
        id=_id(folder, resumed=step > 0),
        resume="allow" if step else None,
        dir=str(folder),
        config=_config(recipe, seed),
        reinit="create_new",
        settings=wandb.Settings(console="off", quiet=True),
    )
    run.define_metric("*", step_metric="step")
    return Tracker(lambda values, at: run.log({**values, "step": at}), run.finish)


def _trackio(recipe: Recipe, folder: Path, seed: int, step: int) -> Tracker:
    """Open a run in Trackio's database, ``TRACKIO_DIR``, or on the Hub in the Space ``TRACKIO_SPACE_ID``."""
    trackio: Any = import_module("trackio")
    run = trackio.init(
        project=os.environ.get("TRACKIO_PROJECT", PROJECT),
        name=f"{_name(folder, seed)} {_id(folder, resumed=step > 0)}",
        group=folder.parent.name,
        config=_config(recipe, seed),
        resume="allow",
        embed=False,
    )
    return Tracker(lambda values, at: run.log(dict(values), step=at), trackio.finish)


def _check_tensorboard() -> None:
    import_module("torch.utils.tensorboard")


def _check_wandb() -> None:
    wandb: Any = import_module("wandb")
    if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False):
        raise TrainingError("report_to wandb: not logged in: run `wandb login`, or set WANDB_MODE=offline")


def _check_trackio() -> None:
    import_module("trackio")
    space = os.environ.get("TRACKIO_SPACE_ID")
    if space and not get_token():
        raise TrainingError(f"report_to trackio: no token for the Space {space}: run `hf auth login`")


def _name(folder: Path, seed: int) -> str:
    return f"{folder.resolve().parent.name} seed {seed}"


def _id(folder: Path, *, resumed: bool) -> str:
    """The id of the folder's run if it is resumed, otherwise a new one."""
    path = folder / ID_NAME
    if resumed and path.is_file():
        return read_document(path).decode().strip()
    run_id = secrets.token_hex(4)
    write_atomically(path, f"{run_id}\n")
    return run_id


def _config(recipe: Recipe, seed: int) -> dict[str, Any]:
    """The recipe without local folders, since others may see it on the tracker."""
    values = dataclasses.asdict(recipe) | {"seed": seed}
    if expand_user(recipe.model).is_dir():
        values["model"] = expand_user(recipe.model).resolve().name
    return {
        name: public_code(value) if isinstance(value, str) else value
        for name, value in values.items()
        if name not in _PRIVATE
    }


_PRIVATE: Final = ("root", "checkpoint", "seeds", "report_to")
_CHECKS: Final[dict[str, Callable[[], None]]] = {
    "tensorboard": _check_tensorboard,
    "wandb": _check_wandb,
    "trackio": _check_trackio,
}
_OPENERS: Final[dict[str, Callable[[Recipe, Path, int, int], Tracker]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "trackio": _trackio,
}
