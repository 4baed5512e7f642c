"""Options of a command that are the fields of a recipe, and the recipe made of what was given.

Example:
    >>> @recipe_options("dataset", "epochs")
    ... def train(**options): return read_recipe(options)
    >>> list(inspect.signature(train).parameters)
    ['dataset', 'epochs', 'named_dataset', 'preset', 'config', 'seeds', 'seed']
"""

import inspect
import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

import typer

from medmnist_hf import console
from medmnist_hf.errors import TrainingError
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
from medmnist_hf.training.values import format_duration

if TYPE_CHECKING:
    from medmnist_hf.training.results import RunResult

Command = TypeVar("Command", bound=Callable[..., Any])

PANELS: Final = {
    "Data": ("size", "root", "revision"),
    "Model": ("model", "pretrained", "checkpoint", "stem", "volumetric", "depth_stride"),
    "Input": ("image_size", "resize", "channels", "normalize"),
    "Method": ("method", "lora_rank", "lora_alpha", "neighbors", "prompt", "time_budget", "trials"),
    "Augmentation": (
        *("flip_horizontal", "flip_vertical", "crop_padding", "rotation", "rotate90", "color_jitter"),
        *("intensity_scale", "mixup", "cutmix"),
    ),
    "Run": ("preset", "config", "seeds", "seed", "test", "report_to", "precision", "compile"),
}
"""Panel of the help -> options that stand there."""

_OTHERS: Final = "Training"
"""Panel of all other fields."""

_NAMED: Final = "named_dataset"
"""Parameter of the option ``--dataset``, which names the data as files of options do, and is not in the help."""

Force = Annotated[bool, typer.Option("--force", help="Replace a run that the folder holds, also one that is done.")]


def recipe_options(*fields: str) -> Callable[[Command], Command]:
    """Give a command options for fields of a recipe, a preset, a file and seeds, in place of its ``**options``.

    The data set is not an option but the command's argument. They have no defaults of their own: what is not given is
    the preset's, or the recipe's. A parameter that the command declares itself replaces the option of the same name.
    Its positional ones are listed before, its keyword-only ones behind the options.

    Args:
        fields: Names of the fields, in the order in which they are listed.
    """

    def decorate(command: Command) -> Command:
        own = [one for one in inspect.signature(command).parameters.values() if one.kind is not one.VAR_KEYWORD]
        names = {one.name for one in own}
        first = [one for one in own if one.kind is not one.KEYWORD_ONLY]
        last = [one for one in own if one.kind is one.KEYWORD_ONLY]
        options = [one for one in _options(fields) if one.name not in names]
        command.__signature__ = inspect.Signature([*first, *options, *last])  # type: ignore[attr-defined]
        return command

    return decorate


def read_recipe(options: Mapping[str, Any]) -> Recipe:
    """The recipe of what was given for options that `recipe_options` made.

    Args:
        options: Values by name, among them ``preset``, ``config``, ``seeds`` and ``seed``; None if not given.

    Raises:
        TrainingError: As `make_recipe`; seeds are both counted and named; or an option that was given, or that the
            file holds, changes nothing. What a preset says for another method is passed over.
        CatalogError: As `make_recipe`.
    """
    values = dict(options)
    if (named := values.pop(_NAMED, None)) is not None:
        if values.get("dataset") is not None:
            raise TrainingError(f"the data is named twice, {values['dataset']} and --dataset {named}: leave one out")
        values["dataset"] = named
    preset, config, count, listed = (values.pop(name) for name in ("preset", "config", "seeds", "seed"))
    if count is not None and listed:
        raise TrainingError("--seeds is a number of seeds and --seed names one: give one or the other")
    if count is not None or listed:
        values["seeds"] = tuple(listed or range(count or 0))
    given = {name: value for name, value in values.items() if value is not None}
    in_file = {} if config is None else read_options(config)
    recipe = make_recipe(in_file | given, preset=preset)
    for name, reason in unread_options(recipe, given).items():
        raise TrainingError(f"--{name.replace('_', '-')} would change nothing ({reason}): leave it out")
    if unread := unread_options(recipe, in_file):
        told = ", ".join(f"{name} ({reason})" for name, reason in unread.items())
        raise TrainingError(f"{config} holds what would change nothing: {told}: remove it there")
    return recipe


def earlier_results(recipe: Recipe, out: Path, *, force: bool) -> "RunResult | None":
    """The results of a run that is done, after all checks that need no torch, which takes seconds to import.

    Args:
        recipe: What is to be run.
        out: Folder of the run.
        force: Replace a run that it holds.

    Returns:
        None where there is something to run.

    Raises:
        TrainingError: The folder holds a run of another recipe or of other data, or a name is that of no model.
        MedMNISTError: The data that the run was of is not found.
    """
    # Whoever asks for help does not wait for these.
    from medmnist_hf.training.run_folder import RunFolder

    folder = RunFolder(out, recipe, force)
    results = folder.finished_result()
    check_model_name(recipe.model, recipe.checkpoint)
    if results is None or os.environ.get("WORLD_SIZE", "1") != "1":
        return None
    _check_data(recipe, out, force=force)
    return results


def show_earlier(results: "RunResult", out: Path, *, quiet: bool) -> None:
    """Print the results of a run that was done before."""
    from medmnist_hf.training.report.terminal import print_results

    if not quiet:
        console.echo(f"{out} holds this run, and it is done: --force runs it again", err=True)
    print_results(results, out)


def announce(recipe: Recipe, out: Path, *, force: bool, quiet: bool) -> None:
    """Say on standard error what is about to run, and find its data, before torch is imported; once under a launcher.

    Raises:
        TrainingError: The folder holds a run of other data.
        MedMNISTError: The data is not found.
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

    config = open_config(recipe.source, recipe.size, recipe.root, revision=recipe.revision)
    RunFolder(out, recipe, force).check(DataRecord.of(config))


def _options(fields: Iterable[str]) -> list[inspect.Parameter]:
    fields = list(fields)
    named = typer.Option("--dataset", hidden=True)
    return [
        *map(_field_option, fields),
        *([_parameter(_NAMED, Annotated[str | None, named])] if "dataset" in fields else []),
        _option("preset", str, f"A whole protocol: {', '.join(presets())}."),
        _option("config", Path, "YAML file of options, such as the recipe.yaml of a run."),
        _option("seeds", int, "Number of seeds: 0, 1, ... [default: 1]"),
        _option("seed", list[int], "A seed, in place of --seeds; may be repeated."),
    ]


def _field_option(name: str) -> inspect.Parameter:
    field, kind = FIELDS[name], type_of(name)
    about = str(field.metadata["help"])
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (one for one in get_args(kind) if one is not type(None))
    if name == "dataset":
        argument = typer.Argument(metavar="DATA", help=about, show_default=False)
        return _parameter(name, Annotated[kind | None, argument])
    if name == "time_budget":
        kind = str
    if name == "method":
        kind, about = str, " ".join([about, *(f"{one.name}: {one.about}" for one in METHODS.values())])
    elif get_origin(kind) is Literal:
        kind, about = str, f"{about} One of {', '.join(str(one) for one in get_args(kind))}."
    if field.default is not None:
        about = f"{about} [default: {_default_text(name)}]"
    return _option(name, kind, about)


def _default_text(name: str) -> str:
    default = FIELDS[name].default
    if isinstance(default, bool):
        return "yes" if default else "no"
    if name == "time_budget":
        return format_duration(default)  # type: ignore[arg-type]  # it is no missing one
    return shlex.quote(default) if isinstance(default, str) else str(default)


def _option(name: str, kind: Any, about: str) -> inspect.Parameter:
    panel = next((title for title, names in PANELS.items() if name in names), _OTHERS)
    flag = f"--{name.replace('_', '-')}"
    declared = [f"{flag}/--no-{flag[2:]}"] if kind is bool else [flag]
    if name in SHORT:
        declared.append(f"--{SHORT[name]}")
    annotation = Annotated[kind | None, typer.Option(*declared, help=about, show_default=False, rich_help_panel=panel)]
    return _parameter(name, annotation)


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
