"""Fields of a recipe as options of a command, and the recipe built from the values given.

Example:
    >>> @recipe_options("dataset", "epochs")
    ... def train(**options): return read_recipe(options)
    >>> list(inspect.signature(train).parameters)
    ['dataset', 'named_dataset', 'preset', 'config', 'seeds', 'seed', 'epochs']
"""

import inspect
import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

import typer

from medmnist_hf import console
from medmnist_hf.console.program import Panel
from medmnist_hf.errors import TrainingError
from medmnist_hf.own_code.names import AUGMENTATION_FILE, MODEL_FILE, rename_model_file
from medmnist_hf.training.recipe import (
    FIELDS,
    SHORT,
    Recipe,
    make_recipe,
    presets,
    read_options,
    type_of,
    unread_options,
)
from medmnist_hf.training.registry import METHODS, check_model_name
from medmnist_hf.training.run_folder import pin_files
from medmnist_hf.training.values import format_duration

if TYPE_CHECKING:
    from medmnist_hf.training.joint.results import JointResult
    from medmnist_hf.training.results import RunResult

Command = TypeVar("Command", bound=Callable[..., Any])

PANELS: Final[dict[Panel, tuple[str, ...]]] = {
    Panel.RECIPE: ("preset", "config"),
    Panel.DATA: (
        *("size", "root", "repository", "revision"),
        *("fraction", "shots", "few_validation", "label_seed"),
    ),
    Panel.MODEL: (
        "model",
        MODEL_FILE,
        "pretrained",
        "checkpoint",
        "stem",
        "volumetric",
        "depth_stride",
        "slice_pooling",
    ),
    Panel.INPUT: ("image_size", "resize", "channels", "normalize"),
    Panel.METHOD: (
        *("method", "features", "unfreeze", "unfreeze_from", "lora_rank", "lora_alpha", "neighbors", "prompt"),
        *("time_budget", "trials"),
    ),
    Panel.TRAINING: (
        *("seeds", "seed", "epochs", "batch_size", "accumulation"),
        *("optimizer", "learning_rate", "schedule", "warmup_epochs", "weight_decay", "layer_decay", "max_grad_norm"),
        *("loss", "class_weights", "label_smoothing", "drop_rate", "drop_path", "ema"),
        *("joint_head", "balance", "probe_first", "freeze_batch_norm", "select", "early_stopping"),
    ),
    Panel.AUGMENTATION: (
        *("flip_horizontal", "flip_vertical", "crop_padding", "rotation", "rotate90", "color_jitter"),
        *("intensity_scale", "corruptions", "augmentation_file", "mixup", "cutmix"),
    ),
    Panel.EVALUATION: ("test",),
    Panel.COMPUTE: ("precision", "compile"),
    Panel.OUTPUT: ("scores_only", "report_to"),
}
"""Panel of the help -> its options, in the order in which they are listed."""

_PANEL_OF: Final = {name: panel for panel, names in PANELS.items() for name in names}

_PATHS: Final = ("root", "checkpoint", "features")
"""Fields that are paths, stored as text."""

_METAVARS: Final = {"size": "SIZE", "image_size": "SIZE", MODEL_FILE: "FILE:NAME", AUGMENTATION_FILE: "FILE:NAME"}

_NAMED: Final = "named_dataset"
"""Parameter of ``--dataset``, an option that help does not show: a file of options names the data set like that."""

Force = Annotated[
    bool, Panel.OUTPUT.option("--force", help="Replace an existing run in the folder, even a completed one.")
]
Quiet = Annotated[bool, Panel.OUTPUT.option("--quiet", help="Print only the scores and the folder, no progress.")]


def recipe_options(*fields: str, of_run: bool = True) -> Callable[[Command], Command]:
    """Replace the ``**options`` of a command by options for a preset, a file, seeds and fields of a recipe.

    The data set is an argument, all others are options. Their default is None, which leaves the value to the preset or
    the recipe. A parameter that the command declares itself replaces the option of the same name.

    Args:
        fields: Names of the fields.
        of_run: Whether to declare options for a preset, a file and seeds too.
    """

    def decorate(command: Command) -> Command:
        parameters = inspect.signature(command).parameters
        own = [parameter for parameter in parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
        options = [option for option in _options(fields, of_run=of_run) if option.name not in parameters]
        command.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
        return command

    return decorate


def read_recipe(options: Mapping[str, Any]) -> Recipe:
    """Build the recipe from the values of options that `recipe_options` declared.

    Args:
        options: Values by name, also of ``preset``, ``config``, ``seeds`` and ``seed``; None if not given.

    Raises:
        TrainingError: As `make_recipe`; both ``seeds`` and ``seed`` are given; or an option on the command line or in
            the file would change nothing. Options of a preset may.
        CatalogError: As `make_recipe`.
    """
    values = dict(options)
    if (named := values.pop(_NAMED, None)) is not None:
        if values.get("dataset") is not None:
            raise TrainingError(f"two data sets are given, {values['dataset']} and --dataset {named}: leave one out")
        values["dataset"] = named
    preset, config, count, listed = (values.pop(name, None) for name in ("preset", "config", "seeds", "seed"))
    if count is not None and listed:
        raise TrainingError("--seeds is a number of seeds and --seed is a seed: give only one of them")
    if count is not None or listed:
        values["seeds"] = tuple(listed or range(count or 0))
    typed = rename_model_file({name: value for name, value in values.items() if value is not None}, "options")
    in_file = {} if config is None else read_options(config)
    recipe = pin_files(make_recipe(in_file | typed, preset=preset))
    for name, reason in unread_options(recipe, typed).items():
        raise TrainingError(f"--{name.replace('_', '-')} would change nothing ({reason}): leave it out")
    if unread := unread_options(recipe, in_file):
        reasons = ", ".join(f"{name} ({reason})" for name, reason in unread.items())
        raise TrainingError(f"{config} has options that would change nothing: {reasons}: remove them")
    return recipe


def earlier_results(recipe: Recipe, out: Path, *, force: bool) -> "RunResult | JointResult | None":
    """The results of a completed run, after all checks that do not need torch, which takes seconds to import.

    Args:
        recipe: The recipe to run.
        out: Folder of the run.
        force: Replace an existing run.

    Returns:
        The results; None if the run is not complete.

    Raises:
        TrainingError: The folder holds a run of another recipe or other data, or the model name is not valid.
        MedMNISTError: The data of the run was not found.
    """
    # Imported here, so that --help is fast.
    from medmnist_hf.training.joint.results import read_joint_results
    from medmnist_hf.training.run_folder import RunFolder

    folder = RunFolder(out, recipe, force)
    results = folder.finished(read_joint_results) if recipe.is_joint else folder.finished_result()
    check_model_name(recipe.model, recipe.checkpoint)
    if results is None or os.environ.get("WORLD_SIZE", "1") != "1":
        return None
    _check_data(recipe, out, force=force)
    return results


def show_earlier(results: "RunResult | JointResult", out: Path, *, quiet: bool) -> None:
    """Print the results of a run that was completed earlier."""
    from medmnist_hf.training.joint.results import JointResult
    from medmnist_hf.training.joint.terminal import print_joint_results
    from medmnist_hf.training.report.terminal import print_results

    if not quiet:
        console.echo(f"{out} holds this run, and it is complete: --force runs it again", err=True)
    if isinstance(results, JointResult):
        print_joint_results(results, out)
    else:
        print_results(results, out)


def announce(recipe: Recipe, out: Path, *, force: bool, quiet: bool) -> None:
    """Print the run to standard error and find its data, before torch is imported; under a launcher, on rank 0 only.

    Raises:
        TrainingError: The folder holds a run on other data.
        MedMNISTError: The data was not found.
    """
    if os.environ.get("RANK", "0") != "0":
        return
    seeds = f"{len(recipe.seeds)} seeds" if len(recipe.seeds) > 1 else f"seed {recipe.seeds[0]}"
    head = f"{recipe.dataset} {recipe.size}, {recipe.model}, {recipe.method}, {seeds}\n  folder   {out}"
    if not quiet:
        console.echo(head, err=True)
    _check_data(recipe, out, force=force)
    if not quiet:
        console.echo("  loading  torch ...", err=True)


def _check_data(recipe: Recipe, out: Path, *, force: bool) -> None:
    from medmnist_hf.data.configs import open_config
    from medmnist_hf.training.results import DataRecord
    from medmnist_hf.training.run_folder import RunFolder

    configs = [open_config(part.source, part.config, part.root, revision=part.revision) for part in recipe.parts]
    RunFolder(out, recipe, force).check(*map(DataRecord.of, configs))


def _options(fields: Iterable[str], *, of_run: bool) -> list[inspect.Parameter]:
    """Parameters for fields and, for a run, a preset, a file and seeds, in the order of `PANELS`."""
    parameters = {name: _field_option(name) for name in fields}
    if of_run:
        parameters |= _run_options()
    if "model" in parameters:
        parameters[MODEL_FILE] = _option(MODEL_FILE, str, OWN_MODEL)
    order = ("dataset", _NAMED, *_PANEL_OF)
    if "dataset" in parameters:
        parameters[_NAMED] = _parameter(_NAMED, Annotated[str | None, typer.Option("--dataset", hidden=True)])
    return sorted(parameters.values(), key=lambda parameter: order.index(parameter.name))


def _run_options() -> dict[str, inspect.Parameter]:
    return {
        "preset": _option("preset", str, f"Complete training protocol: {', '.join(presets())}."),
        "config": _option("config", Path, "YAML file of options, such as the recipe.yaml of a run."),
        "seeds": _option("seeds", int, "Number of seeds, starting from seed 0.", default="1"),
        "seed": _option("seed", list[int], "A seed, instead of --seeds."),
    }


OWN_MODEL: Final = "A function in a Python file of yours that makes the network, as my.py:build; instead of --model."
"""Help of `MODEL_FILE`."""

_ENGINES: Final = (
    "For an engine use medmnist-hf automl, here only if it needs --image-size, --checkpoint and the like."
)


def _field_option(name: str) -> inspect.Parameter:
    field, kind = FIELDS[name], type_of(name)
    about = str(field.metadata["help"])
    if get_origin(kind) in (Union, UnionType):
        kinds = [part for part in get_args(kind) if part is not NoneType]
        kind = kinds[0] if len(kinds) == 1 else str
    if name == "dataset":
        argument = typer.Argument(metavar="DATA", help=about, show_default=False)
        return _parameter(name, Annotated[kind | None, argument])
    if name in {"time_budget", "size"}:
        kind = str
    if name == "method":
        kind, about = str, " ".join([about, *(f"{each.name}: {each.about}" for each in METHODS.values()), _ENGINES])
    elif get_origin(kind) is Literal:
        kind, about = str, f"{about} One of {', '.join(map(str, get_args(kind)))}."
    return _option(name, kind, about, default=None if field.default is None else _default_text(name))


def _default_text(name: str) -> str:
    """The default of a field, as it is typed on the command line."""
    default = FIELDS[name].default
    if isinstance(default, bool):
        return "on" if default else "off"
    if name == "time_budget":
        return format_duration(default)  # type: ignore[arg-type]  # it has a default
    return shlex.quote(default) if isinstance(default, str) else str(default)


def _option(name: str, kind: Any, about: str, *, default: str | None = None) -> inspect.Parameter:
    flag = name.replace("_", "-")
    names = [f"--{flag}/--no-{flag}" if kind is bool else f"--{flag}"]
    if name in SHORT:
        names.append(f"--{SHORT[name]}")
    metavar = "PATH" if name in _PATHS else _METAVARS.get(name)
    option = _PANEL_OF[name].option(*names, help=about, metavar=metavar, show_default=default or False)
    return _parameter(name, Annotated[kind | None, option])


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
