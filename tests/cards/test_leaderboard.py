"""``eval.yaml``: follows the Hub's format, lists the existing configs, and uses the task ids of model results."""

from pathlib import Path

import pytest
import yaml
from datasets import load_dataset

from medmnist_hf.cards.leaderboard import EVAL_NAME, eval_yaml
from medmnist_hf.cards.render import card, describe, write_card
from medmnist_hf.catalog import Subset, subset, subsets
from medmnist_hf.errors import BuildError
from medmnist_hf.hub.eval_results import ModelResult, results_yaml
from medmnist_hf.manifest import Provenance, read_build
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.hub import eval as hub_eval


@pytest.mark.parametrize("entry", subsets(), ids=lambda entry: entry.flag)
def test_every_size_has_a_task_per_measure(entry: Subset) -> None:
    text = eval_yaml(entry)
    assert hub_eval.fault(text) is None
    table = yaml.safe_load(text)
    assert list(table) == ["name", "description", "evaluation_framework", "tasks"]
    assert table["name"] == entry.python_class and entry.description in table["description"]
    assert [(task["config"], task["split"]) for task in table["tasks"]] == [
        (str(size), "test") for size in entry.sizes for _ in ("auc", "acc")
    ]
    reported = [
        result["dataset"]["task_id"]
        for size in entry.sizes
        for result in yaml.safe_load(
            results_yaml(ModelResult(entry.flag, size, 0.9, 0.8, Provenance.VERIFIED), "org/tiny")
        )
    ]
    assert reported == [task["id"] for task in table["tasks"]]
    assert f"such as `{reported[0]}`" in card(entry).replace("\n", " ")


def test_a_build_has_the_tasks_of_its_configs(phantoms: Phantoms, tmp_path: Path) -> None:
    folder = build(phantoms, tmp_path, "breastmnist", 28, 64)
    write_card(folder)
    text = (folder / EVAL_NAME).read_text(encoding="utf-8")
    manifests = read_build(folder)
    assert text == eval_yaml(subset("breastmnist"), manifests[::-1])
    table = yaml.safe_load(text)
    assert table["description"].startswith("SYNTHETIC, no real data; ")
    for task in table["tasks"]:
        rows = load_dataset(str(folder), task["config"], split=task["split"], streaming=True)
        assert rows.info.config_name == task["config"]
    assert sorted({task["config"] for task in table["tasks"]}) == ["28", "64"]
    assert EVAL_NAME not in describe(subset("breastmnist"), manifests, {}, tasks=False)
    with pytest.raises(BuildError, match="use a separate folder for each subset"):
        eval_yaml(subset("pneumoniamnist"), manifests)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name:", "title:"),
        ("evaluation_framework: medmnist", "evaluation_framework: 3"),
        ("28_acc", "28_auc"),
        ("config: '28'", "config: 28"),
        ("tasks:", "tasks: []\nothers:"),
        ("name:", "name: ["),
    ],
)
def test_the_loopback_hub_detects_a_fault(old: str, new: str) -> None:
    text = eval_yaml(subset("organmnist3d"))
    assert old in text and hub_eval.fault(text.replace(old, new)) is not None
