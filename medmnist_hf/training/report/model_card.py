"""Model card of a run: description, training, results, usage, limitations and license.

Every number comes from the run's results, the catalog or the published results; the template has none.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import jinja2
import timm
from huggingface_hub import ModelCardData
from transformers import CONFIG_NAME, TimmWrapperConfig

from medmnist_hf.cards.environment import environment, plain
from medmnist_hf.catalog import Subset, Task, citation_keys, collection
from medmnist_hf.documents import parse_json
from medmnist_hf.files import read_document
from medmnist_hf.hub.eval_results import MEASURES, TASK_CATEGORY, card_results
from medmnist_hf.leaderboard.terminal import SHOWN, board_notes, shortened
from medmnist_hf.own_code.names import is_code
from medmnist_hf.training.models.resnet import PAPER_NETWORKS
from medmnist_hf.training.models.wrappers import TIMM, BackboneConfig, NetworkConfig
from medmnist_hf.training.recipe import FIELDS, Recipe, make_recipe, presets
from medmnist_hf.training.registry import LABELS, method
from medmnist_hf.training.report.publishable import FIGURES, best_seed, model_result, portable, repository
from medmnist_hf.training.report.terminal import own_name
from medmnist_hf.training.results import RunResult, digits
from medmnist_hf.training.standing import board_of, own_mean
from medmnist_hf.typed_json import decode

_ELSEWHERE: Final = (
    *("dataset", "size", "root", "repository", "revision", "model", "method", "seeds", "report_to", "test"),
    *LABELS,
)
"""Options that the card describes in prose, or that do not affect the weights."""

CURVES, SCORES, CASES = "curves.png", "scores.png", "cases.png"
_ABOUT: Final = {
    CURVES: "Losses, validation metrics and learning rate by epoch",
    SCORES: "ROC curves, reliability diagram and confusion matrix",
    CASES: "Wrong and right cases with the most confident predictions",
}
_PERMISSIVE: Final = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0")
"""Licenses of pretrained weights that allow the model to have the license of the data."""

_SPECIAL: Final = {"auc": "AUC", "acc": "ACC", "ece": "ECE", "mae": "MAE", "f1": "F1", "macro_f1": "macro F1"}


def model_card(folder: Path, result: RunResult, *, where: str, figures: str, references: Sequence[str] = ()) -> str:
    """Create the card of a model in its folder within a run, with the figures of its seed.

    Args:
        folder: Folder of the model of the run's `best_seed`.
        result: Results of the run.
        where: As for `card`.
        figures: Path of the folder of figures in the card.
        references: As for `card`.

    Raises:
        OSError: The model's configuration cannot be read.
    """
    config = decode(parse_json(read_document(folder / CONFIG_NAME)), dict[str, Any], CONFIG_NAME)
    paths = [f"{figures}/{name}" for name in _ABOUT if (folder.parent / FIGURES / name).is_file()]
    return card(portable(result), config, where=where, figures=paths, references=references)


def card(
    result: RunResult,
    config: Mapping[str, Any],
    *,
    where: str,
    figures: Sequence[str] = (),
    references: Sequence[str] = (),
) -> str:
    """Create the card of a run's best seed. The metadata includes scores only if the data is verified.

    Args:
        result: Results of the run, made `portable`.
        config: Content of the model's ``config.json``.
        where: Repository or folder that the examples load.
        figures: Paths of the figures in the card.
        references: BibTeX entries to cite; without any, the card lists their keys.

    Returns:
        The text of ``README.md``: a YAML header, then Markdown.
    """
    text = _template().render(
        _context(result, config),
        where=where,
        figures=[{"path": path, "about": _ABOUT[Path(path).name]} for path in figures],
        references=references,
    )
    return f"---\n{_metadata(result, config).to_yaml()}\n---\n\n{text}"


def _metadata(result: RunResult, config: Mapping[str, Any]) -> ModelCardData:
    recipe, provenance, official = result.recipe, result.provenance, model_result(result)
    entry, start = recipe.subset, _start(recipe)
    modality = "-".join(re.findall("[a-z0-9]+", entry.modality.lower()))
    tags = ["medical", "medmnist", entry.flag, modality, f"{entry.ndim}d", entry.task.value, recipe.method]
    return ModelCardData(
        **_license(entry, start),
        library_name=_library(config),
        pipeline_tag=TASK_CATEGORY,
        tags=tags if provenance.comparable else [*tags, provenance.value],
        datasets=[repository(recipe)] if provenance.comparable else None,
        metrics=list(MEASURES.values()),
        base_model=start.repo_id or None if start else None,
        model_name=None if official is None else _title(recipe),
        eval_results=None if official is None else card_results(official, repository(recipe)),
    )


def _title(recipe: Recipe) -> str:
    return f"{recipe.model} on {recipe.dataset} {recipe.size}, {recipe.method}"


def _library(config: Mapping[str, Any]) -> str:
    if _own(config):
        return "medmnist-hf"
    return "timm" if config["model_type"] == TimmWrapperConfig.model_type else "transformers"


def _own(config: Mapping[str, Any]) -> bool:
    """Whether the model type is defined by this package, so that `transformers` alone cannot load it."""
    return config["model_type"] in {NetworkConfig.model_type, BackboneConfig.model_type}


@dataclass(frozen=True, slots=True)
class _Start:
    """Weights that a run started from.

    Attributes:
        repo_id: Model on the Hub; empty for a file or folder.
        license: Their license according to timm; empty if unknown.
    """

    repo_id: str = ""
    license: str = ""


def _start(recipe: Recipe) -> _Start | None:
    if recipe.checkpoint is not None:
        return _Start()
    if is_code(recipe.model):  # its file may load weights of any origin
        return None
    if not recipe.pretrained or recipe.model in PAPER_NETWORKS:
        return None
    if recipe.model.startswith(TIMM):
        weights: Any = timm.get_pretrained_cfg(recipe.model.removeprefix(TIMM))
        return _Start(weights.hf_hub_id or "", "" if weights.license == "unknown" else weights.license or "")
    return _Start(recipe.model if "/" in recipe.model else "")


def _license(entry: Subset, start: _Start | None) -> dict[str, Any]:
    """License in the metadata: the license of the data, unless the license of the weights is more restrictive."""
    weights = start.license if start else ""
    if not weights or weights in _PERMISSIVE or weights == entry.license:
        return {"license": entry.license}
    if "-nc" in weights and "-nc" not in entry.license:
        return {"license": weights}
    return {"license": "other", "license_name": f"{entry.license}-and-{weights}"}


def _context(result: RunResult, config: Mapping[str, Any]) -> dict[str, Any]:
    recipe, best, facts = result.recipe, best_seed(result), collection()
    entry, start, test = recipe.subset, _start(recipe), result.test
    volumes = entry.ndim == 3
    preset, releases = _preset(recipe), best.facts.releases or result.releases
    board = board_of(recipe, own_mean(own_name(result), result)) if result.rank else None
    board, more = shortened(board, SHOWN) if board else (None, "")
    further = {name: value for name, value in best.test.items() if name.partition("_")[0] not in MEASURES}
    return {
        "title": result.provenance.mark(_title(recipe)),
        "subset": entry,
        "collection": facts,
        "provenance": result.provenance,
        "source": result.data.source,
        "rows": result.data.rows,
        "chosen": [
            f"{rows.count:,} of {result.data.rows[split]:,} rows of {split}"
            for split, rows in best.data.chosen.items()
        ],
        "few_labels": recipe.few_labels,
        "model": recipe.model,
        "selected_by": _SPECIAL.get(recipe.select, recipe.select.replace("_", " ")),
        "how": method(recipe.method).card.format(**asdict(recipe)),
        "dataset": repository(recipe),
        "size": recipe.size,
        "config": recipe.config,
        "volumes": volumes,
        "things": "volumes" if volumes else "images",
        "kind": "volumes" if volumes else "RGB images" if entry.channels == 3 else "gray images",
        "multi_label": entry.task is Task.MULTI_LABEL,
        "label_word": "findings" if entry.task is Task.MULTI_LABEL else "classes",
        "ordinal": recipe.loss == "ordinal",
        "own_type": _own(config),
        "code": is_code(recipe.model),
        "timm": _library(config) == "timm",
        "best": best,
        "seeds": len(result.seeds),
        "test": test,
        "methods": {name: best.intervals.get(name, "interval") for name in MEASURES},
        "further": ", ".join(f"{plain(_words(name))} {digits(value)}" for name, value in further.items()),
        "measures": [plain(_words(name)) for name in next(iter(best.per_class.values()), {})],
        "board": board,
        "more": more,
        "notes": list(board_notes(board)) if board else [],
        "preset": preset,
        "options": {} if preset else _differing(recipe, best.facts.image_size),
        "hardware": best.facts.hardware or result.hardware,
        "releases": releases,
        "libraries": ", ".join(f"{name} {release}" for name, release in releases.items()),
        "license": {"name": facts.license_names[entry.license], "url": facts.license_urls[entry.license]},
        "non_commercial": "-nc" in entry.license or (start is not None and "-nc" in start.license),
        "start": start,
        "keys": citation_keys(entry),
        "headline": [["test", *_headline(best.test)], ["validation", *_headline(best.validation)]],
        "per_class": [[plain(name), *map(digits, values.values())] for name, values in best.per_class.items()],
        "seed_rows": [
            *([seed.seed, *_scores(seed.validation), *_scores(seed.test)] for seed in result.seeds),
            ["mean", *(split[name] for split in (result.validation, test) if split for name in MEASURES)],
        ],
    }


def _scores(scored: Mapping[str, float]) -> Iterator[str]:
    for name in MEASURES:
        yield digits(scored.get(name, math.nan))


def _headline(scored: Mapping[str, float]) -> Iterator[str]:
    """Each metric and its interval; validation has no intervals."""
    for name in MEASURES:
        value, low, high = (scored.get(key, math.nan) for key in (name, f"{name}_low", f"{name}_high"))
        yield digits(value)
        yield "" if math.isnan(low) else f"{digits(low)} to {digits(high)}"


def _differing(recipe: Recipe, image_size: int | None) -> dict[str, Any]:
    """Options whose values are not the defaults; ``image_size`` is that of the network's input if it is ``auto``."""
    names = [name for name in FIELDS if name not in _ELSEWHERE]
    options = {name: getattr(recipe, name) for name in names if getattr(recipe, name) != FIELDS[name].default}
    return options | ({"image_size": f"auto ({image_size})"} if recipe.image_size == "auto" else {})


def _preset(recipe: Recipe) -> str:
    """Name of the preset that a recipe equals, apart from data and seeds; empty if there is none."""
    kept = {
        name: getattr(recipe, name)
        for name in ("dataset", "size", "root", "repository", "revision", "seeds", "report_to", *LABELS)
    }
    return next((name for name in presets(recipe.subset.ndim) if make_recipe(kept, preset=name) == recipe), "")


def _words(name: str) -> str:
    return _SPECIAL.get(name, name.replace("_", " "))


@cache
def _template() -> jinja2.Template:
    templates = environment("medmnist_hf.training.report")
    templates.filters |= {
        "score": digits,
        "count": lambda number: f"{number:,.0f}" if number >= 10 else f"{number:.1f}",
    }
    return templates.get_template("model_card.md.j2")
