"""The folder of the module loads with `evaluate` by path, from a copy and without a network; its card is complete."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import evaluate
import pytest
from evaluate.loading import get_imports
from huggingface_hub import RepoCard

from medmnist_hf.errors import CatalogError
from medmnist_hf.evaluate_module import FOLDER
from medmnist_hf.evaluate_module.report import OPTIONS, configs
from tests.fixtures.paths import ROOT


def test_the_folder_has_the_files_of_a_space() -> None:
    assert {path.name for path in FOLDER.iterdir() if path.is_file()} == {
        "medmnist.py",
        "README.md",
        "index.html",
        "page.js",
        "score.js",
        "style.css",
        "icon.svg",
    }
    assert evaluate.load(str(FOLDER), "breastmnist").compute(references=[0, 1], prediction_scores=[0.2, 0.7]) == {
        "auc": 1.0,
        "acc": 1.0,
    }


@pytest.mark.parametrize("config", configs())
def test_every_config_loads(config: str) -> None:
    loaded = evaluate.load(str(FOLDER), config)
    assert loaded.config_name == config and loaded.module_type == "metric"
    assert set(loaded.features) == {"references", "prediction_scores"}


def test_tasks_accept_the_number_of_classes() -> None:
    loaded = evaluate.load(str(FOLDER), "multi-class", num_classes=4, keep_in_memory=True)
    assert loaded.config.num_classes == 4
    with pytest.raises(CatalogError, match="did you mean 'octmnist'"):
        evaluate.load(str(FOLDER), "oktmnist")


COPY = """
import json, socket, sys
def refuse(*args):
    raise AssertionError("the network was used")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
import evaluate
path = sys.argv[1]
metrics = [evaluate.load(source, "retinamnist") for source in (path, path + "/medmnist.py")]
scores = [[0.6, 0.1, 0.1, 0.1, 0.1], [0.1, 0.6, 0.1, 0.1, 0.1]]
print(json.dumps([each.compute(references=[0, 1], prediction_scores=scores, absent="skip") for each in metrics]))
"""


@pytest.mark.slow
def test_a_copy_elsewhere_loads_without_a_network(tmp_path: Path) -> None:
    """As in a Space, and without the environment variables that forbid network access."""
    copy = shutil.copytree(FOLDER, tmp_path / "medmnist", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {name: value for name, value in os.environ.items() if "OFFLINE" not in name}
    environment |= {"HF_HOME": str(tmp_path / "home"), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", COPY, str(copy)]
    process = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert json.loads(process.stdout) == [{"auc": 1.0, "acc": 1.0}] * 2
    assert process.stderr == ""


def test_evaluate_detects_the_required_imports() -> None:
    roots = {root for _, root, _, _ in get_imports(str(FOLDER / "medmnist.py"))} - set(sys.stdlib_module_names)
    assert roots == {"evaluate", "medmnist_hf"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [name.partition(">")[0] for name in project["optional-dependencies"]["evaluate"]] == ["evaluate"]


def test_the_card_describes_a_space_and_every_option() -> None:
    card = RepoCard.load(FOLDER / "README.md")
    facts = card.data.to_dict()
    assert (facts["sdk"], facts["app_file"], facts["license"]) == ("static", "index.html", "apache-2.0")
    assert {"evaluate", "metric"} <= set(facts["tags"])
    for option in OPTIONS:
        assert f"**{option}**" in card.text or f"`{option}=" in card.text, option


def test_the_citation_equals_the_bibliography() -> None:
    """The module and its card contain the entry for `evaluate`, and both must agree with ``references.bib``."""
    entries = (ROOT / "medmnist_hf/references.bib").read_text(encoding="utf-8")
    citation = evaluate.load(str(FOLDER), "breastmnist").citation
    assert citation.startswith("@article{medmnistv2,") and citation.strip() in entries
    assert citation in (FOLDER / "README.md").read_text(encoding="utf-8")
