"""Plots: ROC curves against scikit-learn, reliability against ECE, banners and files."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import roc_curve as sklearn_roc_curve

from medmnist_hf.catalog import Subset, Task, subset, subsets
from medmnist_hf.errors import BuildError, MedMNISTError
from medmnist_hf.evaluation.plots import check_plot_path, draw, reliability, roc_curve, save_plot, stamp
from medmnist_hf.manifest import Provenance
from medmnist_hf.scoring.metrics import metrics
from medmnist_hf.scoring.predictions import Predictions, check

TASKS = ["breastmnist", "retinamnist", "organamnist", "chestmnist"]


def random_predictions(entry: Subset, rows: int = 200, seed: int = 0) -> Predictions:
    rng, labels = np.random.default_rng(seed), len(entry.labels)
    if entry.task is Task.MULTI_LABEL:
        truth = rng.random((rows, labels)) < 0.2
        return check(truth, np.clip(truth * 0.4 + rng.random(truth.shape) * 0.6, 0, 1), entry.task)
    ids = rng.permutation(np.arange(rows) % labels)
    powers = np.exp(rng.normal(size=(rows, labels)) + 2 * (ids[:, None] == np.arange(labels)))
    return check(ids, powers / powers.sum(axis=1, keepdims=True), entry.task)


@given(
    arrays.arrays(np.float64, st.integers(2, 30), elements=st.sampled_from([0, 0.1, 0.25, 0.5, 0.7, 1.0])),
    st.randoms(use_true_random=False),
)
@settings(max_examples=200)
def test_roc_curve_matches_scikit_learn(column: np.ndarray[tuple[int], np.dtype[np.float64]], random: object) -> None:
    positive = np.zeros(len(column), np.bool_)
    positive[: random.randint(1, len(column) - 1)] = True  # type: ignore[attr-defined]
    false, true = roc_curve(column, positive)
    expected_false, expected_true, _ = sklearn_roc_curve(positive, column, drop_intermediate=False)
    assert false == pytest.approx(expected_false) and true == pytest.approx(expected_true)
    area = float((np.diff(false) * (true[1:] + true[:-1]) / 2).sum())
    assert area == pytest.approx(metrics(check(positive, column, "binary-class"), ["auc"])["auc"], abs=1e-12)


@pytest.mark.parametrize("flag", TASKS)
def test_reliability_adds_up_to_the_ece(flag: str) -> None:
    predictions = random_predictions(subset(flag))
    diagram = reliability(predictions)
    scored = predictions.columns.size if predictions.task in (Task.BINARY, Task.MULTI_LABEL) else predictions.rows
    assert diagram.count.sum() == scored and (np.diff(diagram.bins) > 0).all()
    edges = np.linspace(0, 1, 16)
    assert (edges[diagram.bins] - 1e-12 <= diagram.confidence).all()
    assert (diagram.confidence <= edges[diagram.bins + 1] + 1e-12).all()
    if predictions.task is not Task.MULTI_LABEL:
        total = float((np.abs(diagram.hits - diagram.confidence) * diagram.count).sum() / diagram.count.sum())
        assert total == pytest.approx(diagram.error, abs=1e-12), "the drawn bins are those of the ECE"


@pytest.mark.parametrize("entry", subsets(), ids=lambda entry: entry.flag)
def test_the_figure_shows_the_computed_scores(entry: Subset) -> None:
    predictions = random_predictions(entry)
    figure = draw(predictions, entry.labels, "a title")
    roc, calibration, confusion = figure.axes
    assert figure.get_suptitle() == "a title"
    legend = roc.get_legend()
    assert legend is not None
    labels_shown = [text.get_text() for text in legend.get_texts()]
    assert len(labels_shown) == (1 if entry.task is Task.BINARY else len(entry.labels))
    truth = predictions.hot.T if predictions.hot is not None else predictions.ids
    auc_names = "auc" if entry.task is Task.BINARY else "auc:*"
    values = metrics(check(truth, predictions.columns.T, entry.task), [auc_names, "ece", "acc"])
    assert [text.rpartition(" ")[2] for text in labels_shown] == [
        f"{value:.3f}" for name, value in values.items() if name.startswith("auc")
    ]
    assert f"ECE {values['ece']:.3f}" in calibration.get_title()
    assert f"ACC {values['acc']:.3f}" in confusion.get_title()
    counts = [int(text.get_text().replace(",", "")) for text in confusion.texts]
    labels = len(entry.labels)
    assert sum(counts) == predictions.rows * (labels if entry.task is Task.MULTI_LABEL else 1)
    assert len(counts) == (4 * labels if entry.task is Task.MULTI_LABEL else labels**2)


def test_an_absent_class_and_scores_that_are_not_probabilities() -> None:
    predictions = check([0, 1, 2, 1], np.eye(5)[[0, 1, 2, 2]] * 3, "ordinal-regression", from_logits=False)
    roc, calibration, _ = draw(predictions, subset("retinamnist").labels, "x").axes
    legend = roc.get_legend()
    assert legend is not None
    assert [text.get_text().endswith("undefined") for text in legend.get_texts()] == [False] * 3 + [True] * 2
    assert "not probabilities" in calibration.texts[0].get_text()


@pytest.mark.parametrize("suffix", ["png", "PNG", "svg", "pdf"])
def test_files_of_each_format(tmp_path: Path, suffix: str) -> None:
    entry = subset("breastmnist")
    path = save_plot(
        tmp_path / f"plot.{suffix}", random_predictions(entry), entry.labels, "x", provenance=Provenance.VERIFIED
    )
    content = path.read_bytes()
    assert content.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix.lower()])
    assert list(tmp_path.iterdir()) == [path]
    if suffix == "png":
        with PIL.Image.open(path) as picture:
            assert picture.size == (1800, 624)
            assert len(set(picture.convert("L").resize((60, 20)).tobytes())) > 20, "something is drawn"


@pytest.mark.parametrize("provenance", Provenance)
def test_the_banner_of_unverified_data_crosses_the_figure(tmp_path: Path, provenance: Provenance) -> None:
    entry = subset("breastmnist")
    path = save_plot(tmp_path / "plot.png", random_predictions(entry), entry.labels, "x", provenance=provenance)
    with PIL.Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"), np.int16)
    red = pixels[..., 0] - pixels[..., 1:].max(axis=-1) > 30
    columns = np.flatnonzero(red.any(axis=0))
    assert not len(columns) if provenance.comparable else np.ptp(columns) > 0.6 * pixels.shape[1]
    figure = stamp(draw(random_predictions(entry), entry.labels, "x"), provenance)
    assert [text.get_text() for text in figure.texts if text.get_text() != "x"] == (
        [provenance.banner] * bool(provenance.banner)
    )


def test_refused_figures_leave_no_file(tmp_path: Path) -> None:
    entry = subset("breastmnist")
    for path, message in (
        (tmp_path / "plot.gif", "png, svg, pdf"),
        (tmp_path / "plot", "png, svg, pdf"),
        (tmp_path / "none" / "plot.png", "no such folder"),
    ):
        with pytest.raises(MedMNISTError, match=message) as caught:
            check_plot_path(path)
        assert "\n" not in str(caught.value)
    (tmp_path / "plot.png").mkdir()
    with pytest.raises(BuildError, match="cannot write"):
        save_plot(tmp_path / "plot.png", random_predictions(entry), entry.labels, "x", provenance=Provenance.VERIFIED)
    assert [path.name for path in tmp_path.iterdir()] == ["plot.png"]


def test_matplotlib_is_imported_on_demand_and_missed_in_one_line(tmp_path: Path) -> None:
    code = (
        "import sys, medmnist_hf.evaluation.plots, medmnist_hf.cli.results.evaluate\n"
        "assert 'matplotlib' not in sys.modules\n"
        "sys.modules['matplotlib'] = None\n"
        "from pathlib import Path\n"
        "try:\n    medmnist_hf.evaluation.plots.check_plot_path(Path('x.png'))\n"
        "except medmnist_hf.errors.MedMNISTError as error:\n    print(error)\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert re.fullmatch(r"matplotlib is not installed: .* -m pip install 'medmnist-hf\[plot\]'\n", process.stdout)
