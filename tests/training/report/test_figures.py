"""`medmnist_hf.training.report.figures`: figures of every task and method, failures as warnings, one card."""

import logging
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from medmnist_hf.data.arrays import Arrays
from medmnist_hf.extras import install_command
from medmnist_hf.manifest import Provenance
from medmnist_hf.scoring.predictions import Predictions
from medmnist_hf.training.losses import to_scores
from medmnist_hf.training.models.factory import build_model
from medmnist_hf.training.models.saving import Built, save_model
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.report import figures as figures_module
from medmnist_hf.training.report.figures import can_draw, write_card, write_figures
from medmnist_hf.training.report.publishable import best_seed
from medmnist_hf.training.results import RunResult, SeedResult, read_results
from medmnist_hf.training.scoring import check_scores, score_seed
from tests.conftest import Phantoms
from tests.fixtures.benchmarks import data_of, leave_run
from tests.fixtures.builds import build
from tests.fixtures.runs import tiny

HISTORY = [
    {"epoch": 1.0, "loss": 0.7, "learning_rate": 1e-3},
    {"epoch": 1.0, "eval_loss": 0.6, "eval_auc": 0.8, "eval_acc": 0.7},
]
TRAINED = {"history": HISTORY, "best_epoch": 1}
ALL = {"curves.png", "scores.png", "cases.png"}

Left = tuple[Recipe, SeedResult, dict[str, Arrays], dict[str, Predictions], Built]


def seed_of(
    dataset: str,
    *,
    rows: int = 30,
    facts: dict[str, Any] | None = None,
    provenance: Provenance = Provenance.VERIFIED,
    **options: Any,
) -> Left:
    """Inputs of `write_figures`: noise images, scored by an untrained tiny model."""
    recipe = tiny(Path(), dataset, **options)
    entry, rng = recipe.subset, np.random.default_rng(0)
    images = rng.integers(0, 256, (rows, *entry.file(28).image_shape), dtype=np.uint8)
    labels: Any = np.arange(rows) % len(entry.labels)
    if recipe.resolved_loss == "bce":
        labels = (rng.random((rows, len(entry.labels))) < 0.3).astype(np.float32)
    torch.manual_seed(0)
    built = build_model(recipe)
    outputs: Any = built.model.get_submodule("timm_model.classifier").out_features if entry.ndim == 2 else 2
    scores = to_scores(rng.normal(size=(rows, outputs)), recipe.resolved_loss)
    splits = ("validation", "test") if recipe.test else ("validation",)
    data = dict.fromkeys(splits, Arrays(images, labels))
    predictions = dict.fromkeys(splits, check_scores(recipe, labels, scores))
    seed_facts = TRAINED if facts is None else facts
    result = score_seed(recipe, 3, predictions, facts=seed_facts, data=data_of(recipe, provenance))
    return recipe, result, data, predictions, built


def write(folder: Path, seed: Left, *, built: bool = True) -> dict[str, tuple[int, int]]:
    """Write a seed's figures; name -> size in pixels."""
    recipe, result, data, predictions, model = seed
    write_figures(recipe, result, folder, data=data, predictions=predictions, built=model if built else None)
    sizes = {}
    for path in (folder / "figures").iterdir():
        with PIL.Image.open(path) as picture:
            picture.load()
            assert picture.format == "PNG" and len(set(picture.convert("L").resize((60, 20)).tobytes())) > 10
            sizes[path.name] = picture.size
    return sizes


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Figure]]:
    """The figures drawn during a test, by the name of the function that draws them."""
    drawn: dict[str, Figure] = {}
    for name in ("draw", "draw_cases", "draw_curves"):
        real = getattr(figures_module, name)

        def record(*arguments: Any, name: str = name, real: Any = real) -> Figure:
            drawn[name] = real(*arguments)
            return drawn[name]

        monkeypatch.setattr(figures_module, name, record)
    yield drawn


@pytest.mark.parametrize(
    ("dataset", "options"),
    [
        ("pneumoniamnist", {}),
        ("bloodmnist", {"resize": "pad", "image_size": 32}),
        ("retinamnist", {"loss": "ordinal"}),
        ("chestmnist", {}),
        ("adrenalmnist3d", {"volumetric": "2.5d"}),
    ],
)
def test_every_task_has_three_figures_without_warnings(
    tmp_path: Path,
    dataset: str,
    options: dict[str, Any],
    figures: dict[str, Figure],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert write(tmp_path, seed_of(dataset, **options)).keys() == ALL and not caplog.records
    first, second, third = (text.get_text() for text in figures["draw_cases"].texts[:3])
    assert first == f"{dataset} 28, timm/test_efficientnet finetune, seed 3: test cases"
    assert re.fullmatch(
        r"Below each case: support for the predicted label or the finding, by Grad-CAM on [\w. ]+, "
        r"\d+( x \d+){1,2} positions",
        second if second.endswith("positions") else f"{second} {third}",
    )
    assert figures["draw"].get_suptitle() == f"{dataset} 28, timm/test_efficientnet finetune, seed 3: test"


def test_figures_without_a_history_or_a_model(tmp_path: Path, figures: dict[str, Figure]) -> None:
    seed = seed_of("bloodmnist", method="knn", test=False, facts={})
    assert write(tmp_path, seed, built=False).keys() == ALL - {"curves.png"}
    (title, *_) = (text.get_text() for text in figures["draw_cases"].texts)
    assert title == "bloodmnist 28, timm/test_efficientnet knn, seed 3: validation cases"
    assert all(len(axes.images) == 1 for axes in figures["draw_cases"].axes), "no maps"


def test_no_figure_of_cases_without_cases(tmp_path: Path) -> None:
    recipe, result, data, predictions, built = seed_of("chestmnist")
    low = {
        split: check_scores(recipe, np.zeros_like(data[split].labels), 0.1 * checked.columns.T)
        for split, checked in predictions.items()
    }
    assert write(tmp_path, (recipe, result, data, low, built)).keys() == ALL - {"cases.png"}


def test_a_model_in_a_folder_is_named_without_its_path(tmp_path: Path, figures: dict[str, Figure]) -> None:
    recipe, *others = seed_of("bloodmnist")
    folder = tmp_path / "private" / "my-vit"
    folder.mkdir(parents=True)
    write(tmp_path, (replace(recipe, model=str(folder)), *others))  # type: ignore[arg-type]
    titles = [figures["draw"].get_suptitle(), figures["draw_curves"].get_suptitle()]
    titles.append(figures["draw_cases"].texts[0].get_text())
    assert all("28, my-vit finetune" in title and "private" not in title for title in titles)


def test_a_network_without_maps_gives_a_warning_and_cases_without_maps(
    tmp_path: Path, figures: dict[str, Figure], caplog: pytest.LogCaptureFixture
) -> None:
    recipe, result, data, predictions, built = seed_of("bloodmnist")
    built.model.timm_model = nn.Linear(3, 8)  # no forward_features, no map
    assert write(tmp_path, (recipe, result, data, predictions, built)).keys() == ALL
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and "\n" not in record.getMessage()
    assert record.getMessage().startswith("cannot compute attribution maps of timm/test_efficientnet: ")
    assert all(len(axes.images) == 1 for axes in figures["draw_cases"].axes)
    assert "Below" not in "".join(text.get_text() for text in figures["draw_cases"].texts)


def test_a_figure_that_cannot_be_drawn_gives_a_warning_and_no_others_fail(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    facts = {"history": [{"loss": 1.0}], "best_epoch": 1}  # an entry without its epoch
    assert write(tmp_path, seed_of("bloodmnist", facts=facts)).keys() == ALL - {"curves.png"}
    (record,) = caplog.records
    assert re.fullmatch(r"cannot draw .*/figures/curves\.png: 'epoch'", record.getMessage())


def test_a_figure_that_cannot_be_written_raises_an_error(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "scores.png").mkdir()
    recipe, result, data, predictions, _ = seed_of("bloodmnist", facts={})
    with pytest.raises(OSError, match=r"scores\.png"):
        write_figures(recipe, result, tmp_path, data=data, predictions=predictions, built=None)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["scores.png"], "nothing half-written"


def test_missing_matplotlib_gives_a_one_line_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert can_draw() and not caplog.records
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert not can_draw()
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [f"no figures without matplotlib: {install_command('plot')}"]


def models_of(out: Path, seeds: int) -> dict[int, Path]:
    built = build_model(tiny(out, "breastmnist"))
    folders = {seed: out / f"seed-{seed}" / "best" for seed in range(seeds)}
    for folder in folders.values():
        save_model(built, folder)
    return folders


def result_of(root: Path, out: Path, validation: list[float], **options: Any) -> RunResult:
    facts = {"origin": "random initialization", "parameters": 9, "trained_parameters": 9, **TRAINED, "epochs": 1}
    test = [0.9] * len(validation)
    options = {"dataset": "breastmnist", "root": str(root), "model": "timm/test_efficientnet", **options}
    leave_run(out, test=test, validation=validation, facts=facts, pretrained=False, **options)
    return read_results(out / "results.json")


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    build(phantoms, out, "breastmnist", 28)
    return out


def test_only_the_best_seed_has_a_card(root: Path, tmp_path: Path) -> None:
    models = models_of(tmp_path, 2)
    figures = tmp_path / "seed-1" / "figures"
    figures.mkdir()
    (figures / "cases.png").write_bytes(b"")
    first = result_of(root, tmp_path / "one", [0.7])
    write_card({0: models[0]}, first)
    assert (models[0] / "README.md").is_file()
    both = result_of(root, tmp_path / "two", [0.7, 0.8])
    assert best_seed(both).seed == 1
    write_card(models, both)
    assert not (models[0] / "README.md").exists(), "the card of the former best seed is removed"
    text = (models[1] / "README.md").read_text(encoding="utf-8")
    (figure,) = re.findall(r"!\[.+\]\((.+)\)", text)
    assert (models[1] / figure).resolve() == (figures / "cases.png").resolve()
    assert str(models[1]) in text and text.startswith("---\n")
    write_card(models, both)
    assert (models[1] / "README.md").read_text(encoding="utf-8") == text
    assert not list(models[1].glob(".*"))


def test_a_run_without_a_model_has_no_card(root: Path, tmp_path: Path) -> None:
    write_card({0: tmp_path / "seed-0" / "best"}, result_of(root, tmp_path / "run", [0.7], method="knn"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_card_has_the_provenance_even_if_the_build_is_gone(tmp_path: Path) -> None:
    models = models_of(tmp_path, 1)
    result = result_of(tmp_path / "nowhere", tmp_path / "run", [0.7], provenance=Provenance.UNVERIFIED)
    write_card(models, result)
    assert "> **UNVERIFIED.**" in (models[0] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("provenance", Provenance)
def test_every_figure_has_the_banner(tmp_path: Path, figures: dict[str, Figure], provenance: Provenance) -> None:
    write(tmp_path, seed_of("bloodmnist", provenance=provenance))
    titles = [figures["draw"].get_suptitle(), figures["draw_curves"].get_suptitle()]
    titles.append(figures["draw_cases"].texts[0].get_text())
    assert all(title.startswith(provenance.mark("bloodmnist 28, ")) for title in titles)
    stamps = [[text.get_text() for text in figure.texts].count(provenance.name) for figure in figures.values()]
    assert stamps == ([0, 0, 0] if provenance.comparable else [1, 1, 1])
