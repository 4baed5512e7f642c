"""Model cards: metadata as read by the Hub's client, scores, license and usage."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from medmnist_hf.catalog import Subset, Task, citation_keys, subset, subsets
from medmnist_hf.hub.eval_results import MEASURES
from medmnist_hf.leaderboard.board import leaderboard
from medmnist_hf.manifest import Provenance
from medmnist_hf.training.recipe import make_recipe, presets
from medmnist_hf.training.registry import method
from medmnist_hf.training.report.model_card import CURVES, SCORES, card, model_card
from medmnist_hf.training.report.publishable import model_result
from medmnist_hf.training.results import Measures, RunResult, SeedResult, read_results
from tests.fixtures.benchmarks import leave_run
from tests.fixtures.hub.server import HubServer

FACTS = {"origin": "random initialization", "parameters": 11_000_000, "trained_parameters": 513}
TIMM, PAPER, VIT = ({"model_type": name} for name in ("timm_wrapper", "medmnist_network", "vit"))
INSTALL = {
    "timm": "transformers timm datasets",
    "transformers": "transformers torch torchvision datasets",
    "medmnist-hf": '"medmnist-hf[train]"',
}
TRAINED = [
    name
    for flag, ndim in (("breastmnist", 2), ("adrenalmnist3d", 3))
    for name in presets(ndim)
    if method(make_recipe({"dataset": flag}, preset=name).method).leaves_model
    and (ndim == 2 or name not in presets(2))
]
"""Presets of methods that save a model."""


def result_of(folder: Path, flag: str, **options: Any) -> RunResult:
    """Made-up results of a run, with scores per class."""
    settings: dict[str, Any] = {"test": [0.9], "validation": [0.7], "facts": FACTS, "pretrained": False} | options
    leave_run(folder / "run", dataset=flag, **settings)
    result = read_results(folder / "run" / "results.json")
    entry, scored = subset(flag), bool(settings["test"])
    names = entry.labels[1:] if entry.task is Task.BINARY else entry.labels
    if not scored:
        return result
    per_class = {name: {"auc": 0.8, "average_precision": math.nan} for name in names}

    def further(seed: SeedResult) -> SeedResult:
        test = Measures(seed.test | {"balanced_accuracy": 0.5, "ece": 0.04})
        return replace(seed, test=test, per_class=per_class)

    return replace(result, seeds=tuple(map(further, result.seeds)))


def card_of(
    folder: Path,
    flag: str = "breastmnist",
    *,
    config: dict[str, str] = TIMM,
    **options: Any,
) -> Any:
    return ModelCard(card(result_of(folder, flag, **options), config, where="me/mine"))


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a Markdown text, as rows of cells."""
    texts = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [[re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()] for table in texts]


@pytest.mark.parametrize("entry", subsets(), ids=lambda entry: entry.flag)
def test_every_subset_has_a_card_that_the_hub_accepts(hub: HubServer, entry: Subset, tmp_path: Path) -> None:
    config = PAPER if entry.ndim == 3 else TIMM
    made = card_of(tmp_path, entry.flag, config=config, test=[0.9, 0.8], validation=[0.7, 0.8])
    made.validate(repo_type="model")
    data = made.data.to_dict()
    assert data["license"] == entry.license == ("cc-by-nc-4.0" if entry.flag == "dermamnist" else "cc-by-4.0")
    assert data["pipeline_tag"] == "image-classification" and data["datasets"] == [f"medmnist/{entry.flag}"]
    assert {entry.flag, "medical", "medmnist", f"{entry.ndim}d", "finetune"} <= set(data["tags"])
    text = made.text
    assert "**Not for clinical use.**" in text and ("**No commercial use.**" in text) == (entry.flag == "dermamnist")
    assert all(f"- {caveat}" in text for caveat in entry.caveats) and all(key in text for key in citation_keys(entry))
    assert "{{" not in text and "None" not in text and "\n\n\n" not in text
    for table in tables(text):
        assert len({len(row) for row in table}) == 1 and len(table) > 2
        assert re.fullmatch(r"[-: ]+", "".join(table[1]))


def test_the_metadata_has_the_scores_of_the_published_seed(tmp_path: Path) -> None:
    made = card_of(tmp_path, "pathmnist", size=64, repository="me/pathmnist", test=[0.9, 0.6], validation=[0.7, 0.8])
    results = made.data.eval_results or []
    assert [(result.metric_type, result.metric_name) for result in results] == [
        ("roc_auc", "AUC"),
        ("accuracy", "ACC"),
    ]
    assert [result.metric_value for result in results] == pytest.approx([0.6, 0.5])
    for result in results:
        assert result.task_type == made.data.pipeline_tag
        assert (result.dataset_type, result.dataset_name) == ("me/pathmnist", "PathMNIST")
        assert (result.dataset_config, result.dataset_split) == ("64", "test")
    assert made.data.model_name == "resnet18 on pathmnist 64, finetune"
    assert made.data.metrics == list(MEASURES.values())


def test_scores_have_intervals_classes_seeds_and_places(tmp_path: Path) -> None:
    made = card_of(tmp_path, "pathmnist", test=[0.9, 0.6], validation=[0.7, 0.8])
    text = made.text
    headline, classes, seeds, places = (
        [[cell.strip() for cell in row] for row in table] for table in tables(text)[:4]
    )
    assert headline[2] == ["test", "0.600", "0.550 to 0.650", "0.500", "0.450 to 0.550"]
    assert headline[3] == ["validation", "0.800", "", "0.700", ""]
    assert "This model is seed 1, which has the best validation AUC of 2 seeds." in text
    assert classes[0] == ["class", "AUC", "average precision"] and classes[2][1:] == ["0.800", "-"]
    assert [row[0] for row in classes[2:]] == list(subset("pathmnist").labels)
    assert "Further metrics on test: balanced accuracy 0.500, ECE 0.040." in text
    assert seeds[-1] == ["mean", "0.750 ± 0.071", "0.650 ± 0.071", "0.750 ± 0.212", "0.650 ± 0.212"]
    published = [line.name for line in leaderboard("pathmnist", "official").ranked]
    assert [row[1].strip("*") for row in places[2:]] == [*published, "resnet18 finetune (28)"]
    assert places[-1][0] == "7" and "The mean of all seeds among published results of the protocol `official`" in text
    assert "medmnist-hf leaderboard" not in text, "all are listed"


def test_a_single_seed_has_no_table_of_seeds(tmp_path: Path) -> None:
    text = card_of(tmp_path).text
    assert "all seeds" not in text and "This model is seed" not in text
    assert "This model among published results" in text


@pytest.mark.parametrize(
    ("provenance", "options", "expected"),
    [
        (
            Provenance.SYNTHETIC,
            {},
            "> **SYNTHETIC: no real data.** This model was trained and scored on generated images",
        ),
        (
            Provenance.UNVERIFIED,
            {},
            "> **UNVERIFIED.** The data was built from `breastmnist.npz`, whose MD5 does not match the official file.",
        ),
        (Provenance.VERIFIED, {"test": []}, "The test split was not scored. On validation: AUC 0.700, ACC 0.600."),
        (Provenance.VERIFIED, {"test": [float("nan")]}, "| test | - |"),
    ],
)
def test_without_official_scores_the_metadata_has_none(
    provenance: Provenance, options: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    made = card_of(tmp_path, provenance=provenance, **options)
    data = made.data.to_dict()
    assert expected in made.text and "Among the published results" not in made.text
    assert not {"model-index", "model_name", "eval_results"} & set(data)
    assert ("datasets" in data) == provenance.comparable
    assert (provenance.value in data["tags"]) == (not provenance.comparable)
    assert f"# {provenance.mark('resnet18 on breastmnist 28, finetune')}\n" in made.text


def test_the_card_describes_the_data_of_the_run(tmp_path: Path) -> None:
    rows = {"train": 64, "validation": 16, "test": 32}
    entry = subset("breastmnist")
    assert "on the test split, 156 images." in card_of(tmp_path / "real").text
    text = card_of(tmp_path / "phantom", provenance=Provenance.SYNTHETIC, rows=rows).text
    assert "on the test split, 32 images." in text and "on synthetic data with the schema of [BreastMNIST]" in text
    assert (
        not any(caveat in text for caveat in entry.caveats)
        and "156" not in text
        and "no result applies to BreastMNIST" in text
    )
    text = card_of(tmp_path / "other", provenance=Provenance.UNVERIFIED, rows=rows).text
    assert (
        "refer to the official files, not to the data of this model" in text and "on the test split, 32 images" in text
    )


@pytest.mark.parametrize(
    ("options", "head", "text"),
    [
        ({}, {"license": "cc-by-4.0"}, None),
        ({"model": "resnet18", "pretrained": True}, {"license": "cc-by-4.0"}, None),
        (
            {"model": "timm/resnet18", "pretrained": True},
            {"license": "cc-by-4.0", "base_model": "timm/resnet18.a1_in1k"},
            "The license of the pretrained weights "
            "[timm/resnet18.a1_in1k](https://huggingface.co/timm/resnet18.a1_in1k) (apache-2.0) also applies.",
        ),
        (
            {"model": "timm/convnextv2_atto", "pretrained": True},
            {"license": "cc-by-nc-4.0", "base_model": "timm/convnextv2_atto.fcmae_ft_in1k"},
            "**No commercial use.** The license of the pretrained weights",
        ),
        (
            {"model": "timm/convnext_base.dinov3_lvd1689m", "pretrained": True},
            {
                "license": "other",
                "license_name": "cc-by-4.0-and-dinov3-license",
                "base_model": "timm/convnext_base.dinov3_lvd1689m",
            },
            "(dinov3-license) also applies.",
        ),
        (
            {"model": "some/vit", "pretrained": True},
            {"license": "cc-by-4.0", "base_model": "some/vit"},
            "[some/vit](https://huggingface.co/some/vit) also applies.",
        ),
        (
            {"model": "my-vit", "pretrained": True},
            {"license": "cc-by-4.0"},
            "The license of the pretrained weights also applies.",
        ),
        (
            {"model": "timm/resnet18", "checkpoint": "mine.safetensors"},
            {"license": "cc-by-4.0"},
            "The license of the pretrained weights also applies.",
        ),
    ],
)
def test_the_license_of_pretrained_weights_also_applies(
    options: dict[str, Any], head: dict[str, str], text: str | None, tmp_path: Path
) -> None:
    made = card_of(tmp_path, **options)
    data = made.data.to_dict()
    names = ("license", "license_name", "license_link", "base_model")
    assert {name: data[name] for name in names if name in data} == head
    assert text in made.text if text else "pretrained weights" not in made.text


def test_non_commercial_data_stays_non_commercial_with_any_weights(tmp_path: Path) -> None:
    for at, model in enumerate(("timm/resnet18", "timm/convnextv2_atto")):
        made = card_of(tmp_path / str(at), "dermamnist", model=model, pretrained=True)
        assert made.data["license"] == "cc-by-nc-4.0" and "**No commercial use.**" in made.text
    made = card_of(tmp_path, "dermamnist", model="timm/convnext_base.dinov3_lvd1689m", pretrained=True)
    assert made.data["license_name"] == "cc-by-nc-4.0-and-dinov3-license" and "**No commercial use.**" in made.text


@pytest.mark.parametrize(
    ("flag", "config", "library", "code"),
    [
        ("bloodmnist", TIMM, "timm", "pipeline("),
        ("bloodmnist", VIT, "transformers", "pipeline("),
        ("bloodmnist", PAPER, "medmnist-hf", "import medmnist_hf.training.models"),
        ("nodulemnist3d", PAPER, "medmnist-hf", ".predict(volumes[:8])"),
    ],
)
def test_usage_depends_on_the_kind_of_model(
    flag: str, config: dict[str, str], library: str, code: str, tmp_path: Path
) -> None:
    made = card_of(tmp_path, flag, config=config, repository=f"org/{flag}")
    (example,) = re.findall(r"```python\n(.*?)```", made.text, re.DOTALL)
    assert made.data.to_dict()["library_name"] == library and f"`pip install {INSTALL[library]}`" in made.text
    assert '"me/mine"' in example and (f'"org/{flag}", "28"' in example or f'"org/{flag}", 28' in example)
    assert ("import medmnist_hf.training.models" in example) == (config is PAPER and flag == "bloodmnist")
    assert code in example and compile(example, "example", "exec")


def test_findings_and_grades_are_named_as_such(tmp_path: Path) -> None:
    findings = card_of(tmp_path / "chest", "chestmnist").text
    assert "14 findings" in findings and "| finding |" in findings
    grades = card_of(tmp_path / "retina", "retinamnist", loss="ordinal").text
    assert "Each output is the probability of a grade higher than the one in its label." in grades
    assert "higher than the one in its label" not in card_of(tmp_path / "plain", "retinamnist").text


@pytest.mark.parametrize("preset", TRAINED)
def test_an_unchanged_preset_is_named(preset: str, tmp_path: Path) -> None:
    flag = "adrenalmnist3d" if preset.endswith("3d") else "breastmnist"
    text = card_of(tmp_path / "unchanged", flag, preset=preset, pretrained=None).text
    assert f"The recipe is the preset `{preset}`." in text and "that differ" not in text
    text = card_of(tmp_path / "changed", flag, preset=preset, pretrained=None, epochs=7, rotation=5.0).text
    assert "is the preset" not in text and "| `epochs` | `7` |" in text and "| `rotation` | `5.0` |" in text


def test_training_is_described_by_the_numbers_of_the_run(tmp_path: Path) -> None:
    facts = FACTS | {"best_epoch": 3, "epochs": 10}
    text = " ".join(card_of(tmp_path, facts=facts, root="/data/dist", epochs=10).text.split())
    assert "started from random initialization. 513 of 11,000,000 parameters were trained." in text
    assert "The model is that of epoch 3 of 10." in text and "Seed 0 took 10 s on" in text
    assert "| `epochs` | `10` |" in text and "/data/dist" not in text


def test_names_with_bars_do_not_break_a_table(tmp_path: Path) -> None:
    result = result_of(tmp_path, "breastmnist")
    seed = replace(result.seeds[0], per_class={"a|b": {"auc": 0.5}})
    text = card(replace(result, seeds=(seed,)), TIMM, where="me/mine")
    assert r"| a\|b | 0.500 |" in text and all(len({len(row) for row in table}) == 1 for table in tables(text))


def test_names_from_users_are_escaped(tmp_path: Path) -> None:
    """Rendered with HTML enabled, a hostile name adds no HTML, image, link or heading."""
    name = "<script>alert(1)</script> ![a](http://b/c.png) `# c"

    def kinds(text: str) -> list[str]:
        tokens = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(text.partition("---\n\n")[2])
        parts = [*tokens, *(part for token in tokens for part in token.children or ())]
        kinds_checked = ("html_block", "html_inline", "image", "link_open", "heading_open", "fence")
        return [part.type for part in parts if part.type in kinds_checked]

    def card_with(text: str) -> str:
        folder = tmp_path / text.replace("/", "")
        facts = FACTS | {"origin": text, "hardware": {"processor": text, "cores": 2, "gpus": []}}
        return str(card_of(folder, model=f"timm/{text}", facts=facts, prompt=text, checkpoint=text))

    text = card_with(name)
    assert "<script>" in text.replace("\\", "")
    assert kinds(text) == kinds(card_with("name"))


def test_references_are_given_in_full_or_by_key(tmp_path: Path) -> None:
    result = result_of(tmp_path, "dermamnist")
    keys = ["medmnistv2", "medmnistv1", "dermamnist1", "dermamnist2", "dermamnist-quality"]
    assert citation_keys(subset("dermamnist")) == tuple(keys)
    assert f": {', '.join(keys)} in the BibTeX of" in card(result, TIMM, where="me/mine")
    entries = ["@article{one,\n  title = {One}\n}", "@article{two}"]
    text = card(result, TIMM, where="me/mine", references=entries)
    assert "```bibtex\n" + "\n\n".join(entries) + "\n```" in text and "in the BibTeX of" not in text


def test_the_card_of_a_folder_shows_existing_figures(tmp_path: Path) -> None:
    """The provenance comes from the results, since the build may be gone or replaced."""
    result = result_of(tmp_path, "breastmnist", root=str(tmp_path), provenance=Provenance.SYNTHETIC)
    folder = tmp_path / "run" / "seed-0" / "best"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(VIT))
    (figures := folder.parent / "figures").mkdir()
    for name in (CURVES, SCORES):
        (figures / name).write_bytes(b"")
    text = model_card(folder, result, where="me/mine", figures="pictures")
    assert re.findall(r"!\[[^]]+\]\((.*)\)", text) == [f"pictures/{CURVES}", f"pictures/{SCORES}"]
    assert "SYNTHETIC" in text and str(tmp_path) not in text
    assert yaml.safe_load(text.split("---\n")[1])["library_name"] == "transformers"


def test_the_card_of_an_unpublished_subset_has_no_ranks(unpublished: str, tmp_path: Path) -> None:
    made = card_of(tmp_path, unpublished, size=64)
    assert "published results" not in made.text and "Published results" not in made.text
    assert "| test | 0.900 |" in made.text and made.data.eval_results


def test_a_card_names_the_trained_blocks_and_the_size_of_the_input(tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": "partial", "unfreeze": 0.25, "unfreeze_from": "first", "image_size": "auto"}
    text = card_of(tmp_path, facts=FACTS | {"image_size": 224}, **options).text
    assert "with its classifier and the first 25% of its blocks trained" in text
    assert "auto (224)" in text


def test_a_card_states_how_few_labels_were_used(tmp_path: Path) -> None:
    result = result_of(tmp_path, "breastmnist", fraction=0.02)
    text = " ".join(card(result, TIMM, where="x").split())
    assert "It used few labels, fraction 0.02: 10 of 546 rows of train, as chosen by `medmnist_hf.take`." in text
    assert "Among the published results" not in text and "| `fraction` |" not in text
    assert "seed 0, chosen on validation; trained on 10 of 546 train rows" in model_notes(result)
    whole = card(result_of(tmp_path / "whole", "breastmnist"), TIMM, where="x")
    assert "few labels" not in whole and "Among the published results" in whole


def model_notes(result: RunResult) -> str:
    """The notes that go with the scores of a model on the Hub."""
    scores = model_result(result)
    assert scores is not None
    return scores.notes or ""
