"""BE and rBE against cases computed by hand, and the error against scikit-learn's balanced accuracy."""

import csv
import hashlib
import math
import warnings

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from medmnist_hf.catalog import Task, subsets
from medmnist_hf.corruptions import balanced_errors, corruptions
from medmnist_hf.corruptions.measures import BASELINES_NAME, SMALLEST, balanced_error, baseline
from medmnist_hf.errors import CatalogError, MedMNISTError
from medmnist_hf.scoring.predictions import check
from tests.fixtures.paths import ROOT

RNG = np.random.default_rng(0)

DIGEST = "6c872d9ccbd1ddf7785c2c8e0718ce5e01a77b9c971ccc18e08dfc94e7589163"


def test_the_errors_of_alexnet_are_as_they_were_read() -> None:
    content = (ROOT / "medmnist_hf/corruptions" / BASELINES_NAME).read_bytes()
    assert hashlib.sha256(content).hexdigest() == DIGEST
    rows = list(csv.DictReader(content.decode().splitlines()))
    counts = {entry.flag: len(baseline(entry.flag).corrupted) for entry in subsets() if entry.ndim == 2}
    assert len(counts) == 12 and sum(counts.values()) == 131 and len(rows) == 143
    assert counts["dermamnist"] == 15 and counts["octmnist"] == 6
    for flag in counts:
        assert list(baseline(flag).corrupted) == [each.name for each in corruptions(flag)]


def test_be_and_rbe_are_those_computed_by_hand() -> None:
    """AlexNet on RetinaMNIST has 0.5582 on clean images; the errors below are twice its increase, and half of it."""
    alexnet = baseline("retinamnist")
    clean, first, second = alexnet.clean, alexnet.corrupted["pixelate"], alexnet.corrupted["motion_blur"]
    given = {"motion_blur": 0.4 + (second - clean) / 2, "pixelate": 0.4 + 2 * (first - clean)}
    errors = balanced_errors("retinamnist", 0.4, given)
    assert errors.rbe_scores == pytest.approx({"pixelate": 2, "motion_blur": 0.5})
    assert errors.rbe == pytest.approx(1.25)
    assert errors.be_scores == pytest.approx(
        {"pixelate": given["pixelate"] / first, "motion_blur": given["motion_blur"] / second}
    )
    assert errors.be == pytest.approx((given["pixelate"] / first + given["motion_blur"] / second) / 2)
    assert list(errors.raw_scores) == ["pixelate", "motion_blur"] and errors.marks == {}
    assert "jpeg_compression" in errors.missing and len(errors.missing) == 6


def test_alexnet_itself_has_one_everywhere() -> None:
    for entry in subsets():
        if entry.ndim == 2:
            errors = balanced_errors(entry.flag, baseline(entry.flag).clean, baseline(entry.flag).corrupted)
            assert {*errors.be_scores.values(), *errors.rbe_scores.values(), errors.be, errors.rbe} == {1.0}
            assert errors.missing == ()


def test_a_negative_denominator_reverses_the_sign_and_is_marked() -> None:
    """AlexNet's error on PneumoniaMNIST falls from 0.100855 to 0.095299 with contrast: by 1/180."""
    errors = balanced_errors("pneumoniamnist", 0.05, {"contrast_up": 0.06, "pixelate": 0.07})
    assert errors.rbe_scores["contrast_up"] == pytest.approx(0.01 / (-1 / 180))
    assert errors.be_scores["contrast_up"] == pytest.approx(0.06 / 0.09529914529914527)
    assert errors.marks == {"contrast_up": "AlexNet's error falls by 0.0056"}


def test_four_denominators_are_negative_or_tiny() -> None:
    marked: dict[tuple[str, str], str] = {}
    for entry in subsets():
        if entry.ndim == 2:
            marks = balanced_errors(entry.flag, 0.5, baseline(entry.flag).corrupted).marks
            marked |= {(entry.flag, name): mark for name, mark in marks.items()}
    assert marked == {
        ("chestmnist", "contrast_up"): "AlexNet's error rises only by 0.0036",
        ("chestmnist", "gamma_corr_up"): "AlexNet's error rises only by 0.0036",
        ("pneumoniamnist", "contrast_up"): "AlexNet's error falls by 0.0056",
        ("pneumoniamnist", "gamma_corr_up"): "AlexNet's error falls by 0.0048",
    }
    assert SMALLEST == 0.005


def test_a_perfect_model_has_zero_errors() -> None:
    errors = balanced_errors("breastmnist", 0, dict.fromkeys(baseline("breastmnist").corrupted, 0))
    assert (errors.clean, errors.be, errors.rbe) == (0, 0, 0)


@pytest.mark.parametrize(
    ("flag", "clean", "errors", "message"),
    [
        ("adrenalmnist3d", 0.1, {"pixelate": 0.1}, "adrenalmnist3d holds volumes, and MedMNIST-C has "),
        ("breastmnist", 0.1, {"zoom_blur": 0.1}, "breastmnist has no corruption 'zoom_blur': choose from pixelate, "),
        ("breastmnist", 0.1, {}, "no corruptions of breastmnist given: choose from pixelate, "),
        ("breastmnist", 0.1, {"pixelate": 91.3}, "error of breastmnist pixelate is 91.3: give a number from 0 to 1"),
        ("breastmnist", math.nan, {"pixelate": 0.1}, "error of breastmnist clean is nan: give a number"),
    ],
)
def test_other_values_are_one_line_errors(flag: str, clean: float, errors: dict[str, float], message: str) -> None:
    with pytest.raises(MedMNISTError, match=f"^{message}"):
        balanced_errors(flag, clean, errors)


def test_an_unknown_subset_is_a_catalog_error() -> None:
    with pytest.raises(CatalogError):
        balanced_errors("nomnist", 0.1, {"pixelate": 0.1})


def test_the_error_is_one_minus_scikit_learns_balanced_accuracy() -> None:
    ids, scores = RNG.integers(0, 5, 200), RNG.random((200, 5))
    ordinal = balanced_error(check(ids, scores, Task.ORDINAL, from_logits=False))
    assert ordinal == pytest.approx(1 - balanced_accuracy_score(ids, scores.argmax(1)))
    binary = RNG.random((50, 2))
    expected = 1 - balanced_accuracy_score(ids[:50] % 2, binary[:, -1] > 0.5)
    assert balanced_error(check(ids[:50] % 2, binary, Task.BINARY, from_logits=False)) == pytest.approx(expected)


def test_the_error_on_findings_is_the_mean_over_labels() -> None:
    hot, scores = RNG.random((60, 4)) > 0.7, RNG.random((60, 4))
    hot[:, 3] = True  # as scikit-learn does, the class without rows is left out
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        recalls = [balanced_accuracy_score(hot[:, label], scores[:, label] > 0.5) for label in range(4)]
    assert balanced_error(check(hot, scores, Task.MULTI_LABEL)) == pytest.approx(1 - np.mean(recalls))


def test_the_error_of_a_perfect_prediction_is_zero() -> None:
    assert balanced_error(check([0, 1, 1], [0.1, 0.9, 0.8], Task.BINARY)) == 0
