"""The card of a model: its metadata as the Hub's client reads it, and what it says of scores, license and use."""

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
from medmnist_hf.manifest import Provenance
from medmnist_hf.scoring.published import leaderboard
from medmnist_hf.training.recipe import make_recipe, presets
from medmnist_hf.training.registry import method
from medmnist_hf.training.report.model_card import CURVES, SCORES, card, model_card
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
"""Presets of methods that leave a model."""


def result_of(folder: Path, flag: str, **options: Any) -> RunResult:
    """Results of a run, made up, with those of each class."""
    given: dict[str, Any] = {"test": [0.9], "validation": [0.7], "facts": FACTS, "pretrained": False} | options
    leave_run(folder / "run", dataset=flag, **given)
    result = read_results(folder / "run" / "results.json")
    entry, scored = subset(flag), bool(given["test"])
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
    """Each table of a Markdown text: its rows, cut into cells."""
    found = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [[re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()] for table in found]


@pytest.mark.parametrize("entry", subsets(), ids=lambda entry: entry.flag)
def test_every_subset_has_a_card_that_the_hub_takes(hub: HubServer, entry: Subset, tmp_path: Path) -> None:
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


def test_the_metadata_holds_the_scores_of_the_seed_that_is_published(tmp_path: Path) -> None:
    made = card_of(tmp_path, "pathmnist", size=64, repository="me/pathmnist", test=[0.9, 0.6], validation=[0.7, 0.8])
    found = made.data.eval_results or []
    assert [(one.metric_type, one.metric_name) for one in found] == [("roc_auc", "AUC"), ("accuracy", "ACC")]
    assert [one.metric_value for one in found] == pytest.approx([0.6, 0.5])
    for one in found:
        assert one.task_type == made.data.pipeline_tag
        assert (one.dataset_type, one.dataset_name) == ("me/pathmnist", "PathMNIST")
        assert (one.dataset_config, one.dataset_split) == ("64", "test")
    assert made.data.model_name == "resnet18 on pathmnist 64, finetune"
    assert made.data.metrics == list(MEASURES.values())


def test_scores_are_told_with_intervals_classes_seeds_and_places(tmp_path: Path) -> None:
    made = card_of(tmp_path, "pathmnist", size=64, test=[0.9, 0.6], validation=[0.7, 0.8])
    text = made.text
    headline, classes, seeds, places = ([[cell.strip() for cell in row] for row in one] for one in tables(text)[:4])
    assert headline[2] == ["test", "0.600", "0.550 to 0.650", "0.500", "0.450 to 0.550"]
    assert headline[3] == ["validation", "0.800", "", "0.700", ""]
    assert "This is seed 1, of 2 the one with the best AUC on validation." in text
    assert classes[0] == ["class", "AUC", "average precision"] and classes[2][1:] == ["0.800", "-"]
    assert [row[0] for row in classes[2:]] == list(subset("pathmnist").labels)
    assert "Further measures on test: balanced accuracy 0.500, ECE 0.040." in text
    assert seeds[-1] == ["mean", "0.750 ± 0.071", "0.650 ± 0.071", "0.750 ± 0.212", "0.650 ± 0.212"]
    ranked = leaderboard("pathmnist", [("resnet18 finetune (64)", 0.75, 0.65)], provenance=Provenance.VERIFIED)
    assert [row[1].strip("*") for row in places[2:]] == [place.name for place in ranked]
    assert "**resnet18 finetune (64)**" in text and "The mean of all seeds among the rows" in text
    assert "published rows are of images of 28 pixels, this result of 64" in text


def test_one_seed_is_told_alone(tmp_path: Path) -> None:
    text = card_of(tmp_path).text
    assert "All seeds" not in text and "This is seed" not in text and "This model among the rows" in text
    assert "published rows are of images" not in text


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
            "> **UNVERIFIED.** The data was built from a file, `breastmnist.npz`, whose MD5 is not the official one.",
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


def test_what_is_said_of_the_data_is_of_what_the_run_read(tmp_path: Path) -> None:
    rows = {"train": 64, "validation": 16, "test": 32}
    entry = subset("breastmnist")
    assert "Test split, 156 images, by" in card_of(tmp_path / "real").text
    text = card_of(tmp_path / "phantom", provenance=Provenance.SYNTHETIC, rows=rows).text
    assert "Test split, 32 images, by" in text and "on synthetic data with the schema of [BreastMNIST]" in text
    assert (
        not any(caveat in text for caveat in entry.caveats)
        and "156" not in text
        and "nothing here carries over" in text
    )
    text = card_of(tmp_path / "other", provenance=Provenance.UNVERIFIED, rows=rows).text
    assert "are those of the official files, which the data here is not" in text and "Test split, 32 images" in text


@pytest.mark.parametrize(
    ("options", "head", "text"),
    [
        ({}, {"license": "cc-by-4.0"}, None),
        ({"model": "resnet18", "pretrained": True}, {"license": "cc-by-4.0"}, None),
        (
            {"model": "timm/resnet18", "pretrained": True},
            {"license": "cc-by-4.0", "base_model": "timm/resnet18.a1_in1k"},
            "[timm/resnet18.a1_in1k](https://huggingface.co/timm/resnet18.a1_in1k), have a license of\n"
            "their own, apache-2.0, which binds too.",
        ),
        (
            {"model": "timm/convnextv2_atto", "pretrained": True},
            {"license": "cc-by-nc-4.0", "base_model": "timm/convnextv2_atto.fcmae_ft_in1k"},
            "**No commercial use.** The weights it started from",
        ),
        (
            {"model": "timm/convnext_base.dinov3_lvd1689m", "pretrained": True},
            {
                "license": "other",
                "license_name": "cc-by-4.0-and-dinov3-license",
                "base_model": "timm/convnext_base.dinov3_lvd1689m",
            },
            "their own, dinov3-license, which binds too.",
        ),
        (
            {"model": "some/vit", "pretrained": True},
            {"license": "cc-by-4.0", "base_model": "some/vit"},
            "[some/vit](https://huggingface.co/some/vit), have a license of\ntheir own which binds too.",
        ),
        (
            {"model": "my-vit", "pretrained": True},
            {"license": "cc-by-4.0"},
            "The weights it started from have a license of\ntheir own which binds too.",
        ),
        (
            {"model": "timm/resnet18", "checkpoint": "mine.safetensors"},
            {"license": "cc-by-4.0"},
            "The weights it started from have a license of\ntheir own which binds too.",
        ),
    ],
)
def test_the_license_of_the_weights_a_run_started_from_binds_too(
    options: dict[str, Any], head: dict[str, str], text: str | None, tmp_path: Path
) -> None:
    made = card_of(tmp_path, **options)
    data = made.data.to_dict()
    names = ("license", "license_name", "license_link", "base_model")
    assert {name: data[name] for name in names if name in data} == head
    assert text in made.text if text else "The weights it started from" not in made.text


def test_data_that_is_not_for_commerce_stays_so_whatever_the_weights_are(tmp_path: Path) -> None:
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
def test_how_to_use_it_is_told_by_kind(
    flag: str, config: dict[str, str], library: str, code: str, tmp_path: Path
) -> None:
    made = card_of(tmp_path, flag, config=config, repository=f"org/{flag}")
    (example,) = re.findall(r"```python\n(.*?)```", made.text, re.DOTALL)
    assert made.data.to_dict()["library_name"] == library and f"`pip install {INSTALL[library]}`" in made.text
    assert '"me/mine"' in example and (f'"org/{flag}", "28"' in example or f'"org/{flag}", 28' in example)
    assert ("import medmnist_hf.training.models" in example) == (config is PAPER and flag == "bloodmnist")
    assert code in example and compile(example, "example", "exec")


def test_findings_and_grades_are_called_so(tmp_path: Path) -> None:
    findings = card_of(tmp_path / "chest", "chestmnist").text
    assert "14 findings" in findings and "| finding |" in findings
    grades = card_of(tmp_path / "retina", "retinamnist", loss="ordinal").text
    assert "An output is the probability of a grade above the one it is named by." in grades
    assert "above the one it is named by" not in card_of(tmp_path / "plain", "retinamnist").text


@pytest.mark.parametrize("preset", TRAINED)
def test_a_preset_is_named_where_nothing_differs_from_it(preset: str, tmp_path: Path) -> None:
    flag = "adrenalmnist3d" if preset.endswith("3d") else "breastmnist"
    text = card_of(tmp_path / "as it stands", flag, preset=preset, pretrained=None).text
    assert f"The preset `{preset}` as it stands." in text and "What differs" not in text
    text = card_of(tmp_path / "changed", flag, preset=preset, pretrained=None, epochs=7, rotation=5.0).text
    assert "as it stands" not in text and "| `epochs` | `7` |" in text and "| `rotation` | `5.0` |" in text


def test_training_is_told_in_numbers_of_the_run(tmp_path: Path) -> None:
    facts = FACTS | {"best_epoch": 3, "epochs": 10}
    text = " ".join(card_of(tmp_path, facts=facts, root="/data/dist", epochs=10).text.split())
    assert "started from random initialization. Of its 11,000,000 parameters 513 were trained." in text
    assert "Kept is epoch 3 of 10." in text and "Seed 0 took 10 s on" in text
    assert "| `epochs` | `10` |" in text and "/data/dist" not in text


def test_names_with_bars_do_not_break_a_table(tmp_path: Path) -> None:
    result = result_of(tmp_path, "breastmnist")
    seed = replace(result.seeds[0], per_class={"a|b": {"auc": 0.5}})
    text = card(replace(result, seeds=(seed,)), TIMM, where="me/mine")
    assert r"| a\|b | 0.500 |" in text and all(len({len(row) for row in table}) == 1 for table in tables(text))


def test_names_of_others_are_text(tmp_path: Path) -> None:
    """A renderer that leaves HTML as it is finds none, and no picture, link or heading but those of the card."""
    name = "<script>alert(1)</script> ![a](http://b/c.png) `# c"

    def kinds(text: str) -> list[str]:
        tokens = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(text.partition("---\n\n")[2])
        parts = [*tokens, *(part for token in tokens for part in token.children or ())]
        wanted = ("html_block", "html_inline", "image", "link_open", "heading_open", "fence")
        return [part.type for part in parts if part.type in wanted]

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


def test_the_card_of_a_folder_shows_the_figures_that_are_there(tmp_path: Path) -> None:
    """What the data was is read from the results: the build may be gone, or be another one by now."""
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


def test_where_nothing_is_published_the_card_ranks_nothing(unpublished: str, tmp_path: Path) -> None:
    made = card_of(tmp_path, unpublished, size=64)
    assert "published" not in made.text and "| test | 0.900 |" in made.text and made.data.eval_results
