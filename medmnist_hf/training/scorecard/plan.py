"""The runs of a score card: the protocols of a preset on each data set, as recipes, and what has to be left out.

The folder of a card holds its plan, so that the card is a function of the folder alone.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from medmnist_hf.documents import parse_yaml
from medmnist_hf.errors import TrainingError, cannot_read, shorten
from medmnist_hf.files import read_document, write_atomically
from medmnist_hf.own_code.names import is_code, public_code
from medmnist_hf.training.benchmark.matrix import BenchmarkRun
from medmnist_hf.training.recipe import SEEDS, Recipe, make_recipe, unread_options, without_options
from medmnist_hf.training.registry import PAPER_MODELS, method
from medmnist_hf.training.report.publishable import shown_name
from medmnist_hf.training.run_folder import pin_files, run_name
from medmnist_hf.typed_json import Count, FileName, Name, Sentence, decode_versioned, encode

PLAN_NAME: Final = "plan.json"
"""File of the plan in the folder of a card."""

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run of a score card.

    Attributes:
        protocol: Name of the protocol in ``presets.yaml``, e.g. ``shots-5``.
        definition: Its options, without seeds; runs of equal definition can be compared.
        subset: Flag of the subset.
        size: Size of the images in pixels or voxels.
        folder: Folder of the run within that of the card.
    """

    protocol: Name
    definition: Sentence
    subset: Name
    size: Count
    folder: FileName


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A protocol that does not apply to a data set.

    Attributes:
        protocol: Name of the protocol.
        subset: Flag of the subset.
        size: Size of the images in pixels or voxels.
        reason: Why it does not apply.
    """

    protocol: Name
    subset: Name
    size: Count
    reason: Sentence


@dataclass(frozen=True, slots=True)
class Plan:
    """What a score card consists of.

    Attributes:
        model: Name of the model in a recipe, which may be a path.
        title: Its name without a path.
        preset: Name of the preset.
        runs: The runs, by data set and then by protocol.
        left_out: What does not apply.
    """

    model: Name
    title: Name
    preset: Name
    runs: tuple[PlannedRun, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def sizes(self) -> dict[str, int]:
        """Flag of each subset -> size of its images."""
        named: tuple[PlannedRun | LeftOut, ...] = (*self.runs, *self.left_out)
        return {each.subset: each.size for each in named}

    def to_json(self) -> str:
        """The text of ``plan.json``."""
        return json.dumps({"format": _FORMAT} | encode(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> "Plan":
        """Read a ``plan.json``.

        Args:
            text: Content of the file; bytes are UTF-8.
            where: Name of the file in an error message.

        Raises:
            TrainingError: The file is damaged.
        """
        try:
            plan: Plan = decode_versioned(text, cls, _FORMAT)
        except ValueError as error:
            raise TrainingError(
                f"{where} is damaged ({error}): remove it, then run medmnist-hf scorecard again"
            ) from None
        return plan


@dataclass(frozen=True, slots=True)
class Preset:
    """A preset.

    Attributes:
        label_seeds: Number of seeds of a protocol on few labels, each of which draws its own rows.
        protocols: Names of its protocols.
    """

    label_seeds: int
    protocols: tuple[str, ...]


def preset(name: str) -> Preset:
    """Look up a preset. Raises a `TrainingError` if the name is unknown."""
    listed = _presets()["presets"]
    if name not in listed:
        raise TrainingError(f"unknown preset {shorten(name)}: choose from {', '.join(listed)}")
    return Preset(listed[name]["label_seeds"], tuple(listed[name]["protocols"]))


def preset_names() -> tuple[str, ...]:
    """Names of the presets, from the smallest to the largest."""
    return tuple(_presets()["presets"])


def read_plan(out: Path) -> Plan | None:
    """Read the plan in the folder of a card; None if it has none.

    Raises:
        TrainingError: The file cannot be read or is damaged.
    """
    path = out / PLAN_NAME
    try:
        return Plan.from_json(read_document(path), str(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TrainingError(cannot_read(path, error, "run medmnist-hf scorecard again")) from None


def write_plan(out: Path, plan: Plan) -> None:
    """Write a plan into the folder of a card, unless that holds the card of another model.

    Raises:
        TrainingError: The folder holds the card of another model, or its plan is damaged.
        OSError: The folder cannot be written.
    """
    check_model(out, plan.model)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / PLAN_NAME, plan.to_json())


def check_model(out: Path, model: str) -> None:
    """Raise a `TrainingError` if a folder holds the card of another model."""
    earlier = read_plan(out)
    if earlier is not None and earlier.model != model:
        raise TrainingError(f"{out} holds the score card of {earlier.model}, not of {model}: name another --out")


def make_plan(
    data: Sequence[Mapping[str, Any]],
    options: Mapping[str, Any],
    name: str = "quick",
    protocols: Sequence[str] = (),
    *,
    usual: Mapping[str, Any],
) -> tuple[Plan, list[BenchmarkRun]]:
    """Plan a score card.

    Args:
        data: Fields of a recipe that name each data set, such as ``dataset`` and ``size``.
        options: Further fields of all recipes: ``model`` and those that define its weights and input; None counts as
            not given.
        name: Name of the preset.
        protocols: Protocols of the preset to run; empty for all.
        usual: Fields that a protocol may leave unread: the folder of ``features``, and defaults of the command.

    Returns:
        The plan, and the run of each of its entries.

    Raises:
        TrainingError: A preset, protocol or option is unknown or changes nothing, the model has no weights or its
            file cannot be read, a subset is named twice, or no protocol applies.
        CatalogError: A subset or size is unknown.
    """
    chosen = preset(name)
    if unknown := [each for each in protocols if each not in chosen.protocols]:
        choices = ", ".join(chosen.protocols)
        raise TrainingError(f"preset {name} has no protocol {shorten(unknown[0])}: choose from {choices}")
    given = {option: value for option, value in options.items() if value is not None}
    if not given.get("pretrained", True) and "checkpoint" not in given:
        raise TrainingError("a network without weights has others for each seed: give --checkpoint")
    planned, cells, left_out, model = [], [], [], ""
    idle: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    for named in data:
        entry = pin_files(make_recipe({**named, "model": options["model"]}))
        model = entry.model
        for protocol in protocols or chosen.protocols:
            values = _presets()["protocols"][protocol]
            if reason := _obstacle(values["method"], entry):
                left_out.append(LeftOut(protocol, entry.dataset, entry.size, reason))
                continue
            if "shots" in values or "fraction" in values:
                values = {SEEDS: list(range(chosen.label_seeds)), **values}
            # Enlarging a volume costs the cube of its edge.
            fitting = {**usual, "image_size": None} if entry.subset.ndim == 3 else usual
            recipe = pin_files(make_recipe({**named, **fitting, **given, **values, "scores_only": True}))
            idle.update((unread := unread_options(recipe, given)).keys())
            reasons |= unread
            recipe = without_options(recipe, [*unread, *unread_options(recipe, fitting)])
            cells.append(BenchmarkRun(run_name(recipe), recipe))
            planned.append(PlannedRun(protocol, _definition(values), recipe.dataset, recipe.size, run_name(recipe)))
    if not planned:
        raise TrainingError(f"no protocol applies to {model}: {left_out[0].reason}")
    for option, count in idle.items():
        if count == len(planned):
            raise TrainingError(f"--{option.replace('_', '-')} would change nothing ({reasons[option]}): leave it out")
    if twice := [flag for flag, count in Counter((run.protocol, run.subset) for run in planned).items() if count > 1]:
        raise TrainingError(f"{twice[0][1]} is named twice: make a score card for each size or build")
    return Plan(model, shown_name(model), name, tuple(planned), tuple(left_out)), cells


def _definition(values: Mapping[str, Any]) -> str:
    return ", ".join(name if value is True else f"{name} {value}" for name, value in values.items() if name != SEEDS)


def _obstacle(name: str, entry: Recipe) -> str:
    """Why a method does not apply to a data set and a model; empty if it does."""
    if entry.subset.ndim == 3 and not method(name).volumes:
        return f"{name} reads only images, but {entry.dataset} has volumes"
    return _without_text(entry.model) if name == "zero-shot" else ""


@cache
def _without_text(model: str) -> str:
    """Why a model cannot be compared with prompts; empty if it can."""
    if model in PAPER_MODELS or model.startswith("timm/") or is_code(model):
        return f"{public_code(model)} has no text tower"
    # transformers takes seconds to import.
    from medmnist_hf.training.methods.zero_shot import check_text_tower

    try:
        check_text_tower(model)
    except TrainingError as error:
        return str(error)
    return ""


@cache
def _presets() -> dict[str, Any]:
    text = (resources.files("medmnist_hf.training.scorecard") / "presets.yaml").read_text(encoding="utf-8")
    return dict(parse_yaml(text))
