"""Descriptions of entries: what they must hold, and what is refused in them."""

import math
from typing import Any

import pytest

from medmnist_hf.errors import ScoreError
from medmnist_hf.submissions.entry import Entry, claimed, entry_text, mean_and_std, parse_entry

VALUES: dict[str, Any] = {
    "method": "ResNet-18 (28)",
    "size": 28,
    "image_size": 28,
    "resize": "none",
    "pretraining": "none",
    "adaptation": "scratch",
    "labels": "all",
    "selected_on": "validation",
    "seeds": 1,
    "release": "3.0.0",
    "url": "https://example.org/code",
    "note": "",
    "results": {"breastmnist": {"auc": 0.9129, "acc": 0.8462}},
}
STD = {"auc_std": 0.01, "acc_std": 0.02}


def parsed(**values: Any) -> Entry:
    return parse_entry(entry_text(VALUES | values))


def test_a_description_is_read_as_it_was_written() -> None:
    entry = parsed()
    assert (entry.method, entry.size, entry.seeds, entry.url) == ("ResNet-18 (28)", 28, 1, "https://example.org/code")
    claim = entry.results["breastmnist"]
    assert (claim.auc, claim.acc, claim.md5) == (0.9129, 0.8462, "") and math.isnan(claim.auc_std)
    text = entry_text(VALUES)
    assert all(line.startswith("# ") for line in text.splitlines()[:2])
    least = "\n".join(line for line in text.splitlines() if not line.startswith(("#", "url", "note")))
    assert parse_entry(least).note == ""


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"method": ""}, "method is '', must be 1 to 120 characters"),
        ({"method": "<script>alert(1)</script>"}, "must be 1 to 120 characters without < > |"),
        ({"method": "[x](javascript:alert)"}, "must be 1 to 120 characters without < > |"),
        ({"method": "Net\u202eteN"}, "method holds control characters"),
        ({"method": "Net\u200b"}, "method begins or ends with a space, or holds characters that are not shown"),
        ({"method": "Net\n# x"}, "method holds control characters"),
        ({"method": 18}, "method is 18, must be text"),
        ({"note": "a | b"}, "note is 'a | b', must be up to 500 characters"),
        ({"url": "javascript:alert(1)"}, "url is 'javascript:alert(1)', must be an https:// address, or empty"),
        ({"url": "https://github.com@evil.example/"}, "must be an https:// address, or empty"),
        ({"url": "https://githu\u0431.com"}, "must be an https:// address, or empty"),
        ({"url": "https://example.org/\u200b"}, "must be an https:// address, or empty"),
        ({"method": "\u2800"}, "method has no letter and no digit"),
        ({"size": "28"}, "size is '28', must be an integer"),
        ({"size": 32, "image_size": 32}, "results: breastmnist has no size 32: choose from 28, 64, 128, 224"),
        ({"adaptation": "tuned"}, "adaptation is 'tuned', must be one of scratch, full, partial, "),
        ({"selected_on": "train"}, "selected_on is 'train', must be one of validation, test, unknown"),
        ({"adaptation": "linear-probe"}, "belong to no protocol"),
        ({"adaptation": "unknown"}, "adaptation is unknown, but decides which results an entry is compared with"),
        ({"pretraining": "unknown"}, "pretraining is unknown, but decides which results an entry is compared with"),
        ({"labels": "few"}, "labels is few and note is empty: say in note how many labels were used"),
        ({"image_size": 224}, "resize is none exactly if both sizes are equal"),
        ({"resize": "bicubic"}, "resize is none exactly if both sizes are equal"),
        ({"release": 3.0}, "release is 3.0, must be text"),
        ({"seeds": 0}, "seeds is 0, must be an integer from 1 to 100"),
        ({"seeds": 2}, "results.breastmnist needs auc_std and acc_std, as there are several seeds"),
        ({"results": {}}, "results is empty: name a subset and its scores"),
        ({"results": []}, "results is [], must be an object"),
        ({"results": {"breastmnist": 0.9}}, "0.9 in results.breastmnist is not a table of keys and values"),
        ({"results": {"brestmnist": {"auc": 0.9, "acc": 0.8}}}, "did you mean 'breastmnist'?"),
        ({"results": {"BreastMNIST": {"auc": 0.9, "acc": 0.8}}}, "results names BreastMNIST: write breastmnist"),
        ({"results": {"breastmnist": {"auc": None, "acc": 0.8}}}, "results.breastmnist needs numbers for auc and acc"),
        ({"results": {"breastmnist": {"auc": 1.2, "acc": 0.8}}}, "auc is 1.2, must be a number from 0 to 1"),
        ({"results": {"breastmnist": {"auc": 0.9, "acc": 0.8, **STD}}}, "needs no auc_std and acc_std"),
        (
            {"results": {"breastmnist": {"auc": 0.9, "f1": 0.8}}},
            "unknown key 'f1' in results.breastmnist: the keys are auc, acc, auc_std, acc_std, md5",
        ),
    ],
)
def test_a_mistake_is_one_line(values: dict[str, Any], fault: str) -> None:
    with pytest.raises(ScoreError) as caught:
        parsed(**values)
    assert str(caught.value).startswith("entry.yaml is not valid: ") and fault in str(caught.value)


def test_an_unknown_key_names_the_known_ones() -> None:
    with pytest.raises(ScoreError, match=f"unknown key 'epochs': the keys are {', '.join(VALUES)}$"):
        parse_entry(entry_text(VALUES) + "epochs: 3\n")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is not a table of keys and values"),
        (b"\xff", "is not UTF-8 text"),
        ("selected_on: test\nmethod: a\nselected_on: validation", "the key 'selected_on' appears twice"),
        ("results: {breastmnist: {auc: 0.1, auc: 0.9}}", "the key 'auc' appears twice"),
        ("!!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: " + "[*b, " * 60, "nested deeper"),
    ],
)
def test_other_documents_are_refused(text: str | bytes, fault: str) -> None:
    with pytest.raises(ScoreError, match=fault) as caught:
        parse_entry(text, "mine/entry.yaml")
    assert str(caught.value).startswith("mine/entry.yaml is not")


def test_scores_of_several_seeds_have_a_standard_deviation() -> None:
    assert claimed([0.9], [0.8]) == {"auc": 0.9, "acc": 0.8}
    mean, std = mean_and_std([0.90, 0.92, 0.97])
    assert math.isclose(mean, 0.93) and math.isclose(std**2, (0.03**2 + 0.01**2 + 0.04**2) / 2)
    assert parsed(seeds=2, results={"breastmnist": claimed([0.9, 0.92], [0.8, 0.84])}).seeds == 2
