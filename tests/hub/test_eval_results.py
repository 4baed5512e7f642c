"""Results of a model survive the parsers of `huggingface_hub`, and invalid ones are refused in one line."""

from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData, parse_eval_result_entries
from huggingface_hub.repocard_data import model_index_to_eval_results
from hypothesis import given
from hypothesis import strategies as st

from medmnist_hf.catalog import subsets
from medmnist_hf.errors import CatalogError, MedMNISTError, ScoreError
from medmnist_hf.hub.eval_results import ModelResult, card_results, results_yaml, task_id
from medmnist_hf.manifest import Provenance

FULL = ModelResult(
    "PathMNIST",
    224,
    auc=0.9912,
    acc=0.9377,
    provenance=Provenance.VERIFIED,
    date="2026-01-31",
    source_url="https://example.org/run",
    source_name="Run 3",
    notes="3 seeds: mean, not best",
    revision="5" * 40,
)

scores = st.floats(0, 1)


def test_round_trip_of_a_full_result() -> None:
    auc, acc = parse_eval_result_entries(yaml.safe_load(results_yaml(FULL, "org/pathmnist")))
    assert (auc.task_id, auc.value, acc.task_id, acc.value) == ("224_auc", 0.9912, "224_acc", 0.9377)
    for entry in (auc, acc):
        assert (entry.dataset_id, entry.dataset_revision) == ("org/pathmnist", "5" * 40)
        assert (entry.date, entry.source_url, entry.source_name) == ("2026-01-31", "https://example.org/run", "Run 3")
        assert entry.notes == "3 seeds: mean, not best"
        assert entry.verify_token is entry.source_user is entry.source_org is None


@given(
    st.sampled_from([(entry.flag, size) for entry in subsets() for size in entry.sizes]),
    scores,
    scores,
    st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" ")),
)
def test_round_trip_of_any_result(where: tuple[str, int], auc: float, acc: float, notes: str) -> None:
    flag, size = where
    text = results_yaml(ModelResult(flag, size, auc, acc, Provenance.VERIFIED, notes=notes), f"org/{flag}")
    entries = parse_eval_result_entries(yaml.safe_load(text))
    assert [(entry.dataset_id, entry.task_id, entry.value) for entry in entries] == [
        (f"org/{flag}", task_id(str(size), "auc"), auc),
        (f"org/{flag}", task_id(str(size), "acc"), acc),
    ]
    for entry in entries:
        assert (entry.notes, entry.date, entry.source_url) == (notes or None, None, None)


def test_numpy_scalars_become_plain_numbers() -> None:
    auc: Any = np.float32(0.5)
    text = results_yaml(ModelResult("breastmnist", 28, auc, np.float64(0.25), Provenance.VERIFIED), "org/breastmnist")
    assert [result["value"] for result in yaml.safe_load(text)] == [0.5, 0.25]


def test_the_model_index_of_a_card() -> None:
    data = ModelCardData(model_name="tiny", eval_results=card_results(FULL, "org/pathmnist"))
    read: Any = ModelCard(f"---\n{data.to_yaml()}\n---\n\n# tiny\n").data
    assert read.eval_results == card_results(FULL, "org/pathmnist")
    (index,) = read.to_dict()["model-index"]
    (result,) = index["results"]  # AUC and ACC are two metrics of one run
    assert result["dataset"] == {
        "name": "PathMNIST",
        "type": "org/pathmnist",
        "config": "224",
        "split": "test",
        "revision": "5" * 40,
    }
    assert [(metric["type"], metric["name"], metric["value"]) for metric in result["metrics"]] == [
        ("roc_auc", "AUC", 0.9912),
        ("accuracy", "ACC", 0.9377),
    ]
    assert model_index_to_eval_results([index]) == ("tiny", card_results(FULL, "org/pathmnist"))


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"flag": "pathmnits"}, CatalogError, "did you mean 'pathmnist'"),
        ({"size": 32}, CatalogError, "has no size 32"),
        ({"provenance": Provenance.SYNTHETIC}, ScoreError, "was measured on synthetic data: only scores"),
        ({"provenance": Provenance.UNVERIFIED}, ScoreError, "was measured on unverified data: only scores"),
        ({"auc": 99.1}, ScoreError, "AUC 99.1: give a number from 0 to 1"),
        ({"acc": float("nan")}, ScoreError, "ACC nan"),
        ({"date": "31.1.2026"}, ScoreError, "write it as 2026-01-31"),
        ({"source_url": ""}, ScoreError, "give source_url"),
        ({"notes": "two\nlines"}, ScoreError, "one line of text"),
    ],
)
def test_results_that_cannot_be_reported(change: dict[str, Any], error: type[MedMNISTError], match: str) -> None:
    attributes = {name: getattr(FULL, name) for name in FULL.__slots__} | change
    with pytest.raises(error, match=match) as caught:
        ModelResult(**attributes)
    assert "\n" not in str(caught.value)
