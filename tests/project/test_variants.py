"""Corrected splits from the command line to the Hub: built, verified, audited, loaded, scored, pushed by their names.

The files are phantoms, since the published ones are out of reach; they are marked as synthetic everywhere.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

import medmnist_hf
from builders.medmnist2d import MedMNIST2D
from medmnist_hf import catalog
from medmnist_hf.catalog import entries, subset, variants
from medmnist_hf.conversion.batch import plan_run
from medmnist_hf.conversion.build import BuildOptions
from medmnist_hf.conversion.sources.source import Folder, open_source
from medmnist_hf.data.configs import open_config
from medmnist_hf.data.rows import open_rows
from medmnist_hf.errors import CatalogError, ScoreError, SourceError
from medmnist_hf.hub.dataset_plan import PushOptions, plan_push
from medmnist_hf.hub.dataset_push import push
from medmnist_hf.hub.dataset_state import check_state, read_state
from medmnist_hf.hub.eval_results import ModelResult, card_results, results_yaml
from medmnist_hf.hub.local_build import read_local
from medmnist_hf.leaderboard.board import OwnResult, leaderboard
from medmnist_hf.manifest import Provenance, read_build
from medmnist_hf.places.configs import find_configs
from medmnist_hf.places.names import parse_name
from medmnist_hf.scoring.published import published_results
from medmnist_hf.training.recipe import make_recipe
from tests.fixtures.commands import invoke
from tests.fixtures.hub.server import HubServer
from tests.fixtures.on_hub import put_on_hub

ROWS = 14
FLAG = "dermamnist"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of builds with an official size and two variants of it."""
    folder = tmp_path_factory.mktemp("variants")
    sizes = ["--size", "28", "--size", "28-corrected", "--size", "28-extended"]
    invoke("build", FLAG, *sizes, "--source", "phantom", "--phantom-rows", str(ROWS), "--root", folder)
    return folder


def test_facts_of_the_published_files() -> None:
    corrected, extended = variants(subset(FLAG))
    assert (corrected.counts.train, corrected.counts.validation, corrected.counts.test) == (8215, 573, 1227)
    assert corrected.counts.total == subset(FLAG).counts.total
    assert (extended.counts.train, extended.counts.validation, extended.counts.test) == (10015, 193, 1511)
    for entry in (corrected, extended):
        assert (entry.base, entry.license, entry.labels) == (FLAG, "cc-by-nc-4.0", subset(FLAG).labels)
        assert "10.5281/zenodo.11101337" in medmnist_hf.cite(entry.flag)
        assert entry not in catalog.subsets() and entry in entries()
    assert corrected.file("28-corrected").md5 == "96e2862980877d45d9cacb5c25de6950"


@pytest.mark.parametrize(
    "name", ["dermamnist-28-corrected", "DermaMNIST-corrected-28", "dermamnist-corrected", "dermamnist-28-CORRECTED"]
)
def test_names_of_a_variant(name: str) -> None:
    entry = parse_name(name).entry
    assert entry is not None and entry.flag == "dermamnist-corrected"
    assert parse_name(name).size in {28, None}


def test_only_dermamnist_has_variants_and_never_one_called_c() -> None:
    assert [entry.flag for entry in entries() if entry.variant] == ["dermamnist-corrected", "dermamnist-extended"]
    for name, size in (("pathmnist", "28-corrected"), (FLAG, "64-corrected"), (FLAG, "28-c")):
        with pytest.raises(CatalogError, match=f"{name} has no size {size}"):
            medmnist_hf.load(name, size)
    with pytest.raises(CatalogError, match="names size 28, but size is 28-corrected"):
        medmnist_hf.load("dermamnist-28", "28-corrected")


def test_all_means_the_official_sizes() -> None:
    planned = plan_run(["all"], ["all"], open_source("phantom"), BuildOptions())
    assert len(planned) == 60 and not any(each.subset.variant for each in planned)
    some = plan_run(["all"], ["28-corrected"], open_source("phantom"), BuildOptions())
    assert [each.name for each in some] == ["dermamnist 28-corrected"]


def test_rows_are_found_by_every_name(dist: Path) -> None:
    for name, size in ((FLAG, "28-corrected"), ("dermamnist-28-corrected", None), (dist / FLAG, "28-corrected")):
        data = medmnist_hf.load(name, size, root=None if isinstance(name, Path) else dist)
        assert data["train"].info.description.startswith("SYNTHETIC")
        arrays = medmnist_hf.load_arrays(name, size, root=None if isinstance(name, Path) else dist, cache=False)
        assert np.array_equal(np.asarray(data["train"]["label"]), arrays.labels)
    rows = open_rows(FLAG, "28-corrected", root=dist)
    assert (rows.entry.flag, rows.size) == ("dermamnist-corrected", 28)
    found = find_configs(dist / FLAG, ["28-corrected"])
    assert [each.manifest.config_name for each in found] == ["28-corrected"]
    assert [each.manifest.config_name for each in find_configs(FLAG, root=dist)] == [
        "28",
        "28-corrected",
        "28-extended",
    ]
    assert [each.manifest.subset for each in find_configs("dermamnist-extended", root=dist)] == ["dermamnist-extended"]
    with pytest.raises(SourceError, match=r"no build of dermamnist at size 224-corrected .* 28, 28-corrected, 28-ext"):
        medmnist_hf.load(FLAG, "224-corrected", root=dist)


def test_card_croissant_and_tasks_name_the_configs(dist: Path) -> None:
    card = (dist / FLAG / "README.md").read_text()
    head = yaml.safe_load(card.split("---\n")[1])
    assert [config["config_name"] for config in head["configs"]] == ["28", "28-corrected", "28-extended"]
    assert [config.get("default") for config in head["configs"]] == [True, None, None]
    assert "synthetic" in head["tags"] and "## Other splits" in card
    tasks = yaml.safe_load((dist / FLAG / "eval.yaml").read_text())["tasks"]
    assert {"id": "28-corrected_auc", "config": "28-corrected", "split": "test"} in tasks
    assert "28-corrected/train-*.parquet" in (dist / FLAG / "croissant.json").read_text()
    assert [manifest.source.synthetic for manifest in read_build(dist / FLAG)] == [True] * 3


def test_verify_audit_and_export(dist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = ("--source", "phantom", "--phantom-rows", str(ROWS))
    invoke("verify", dist / FLAG, "--size", "28-corrected", *source)
    assert "ok: dermamnist-corrected 28:" in capsys.readouterr().out
    invoke("audit", dist / FLAG, "--size", "28-corrected")
    assert "dermamnist-corrected 28, from phantom" in capsys.readouterr().out
    invoke("export", FLAG, "--size", "28-corrected", "--root", dist, "--format", "npz", "--out", tmp_path)
    assert (tmp_path / "dermamnist_corrected_28.npz").is_file()
    assert len(medmnist_hf.load_arrays(tmp_path / "dermamnist_corrected_28.npz", cache=False).labels) == ROWS


def test_another_file_is_refused(dist: Path, tmp_path: Path) -> None:
    invoke("export", FLAG, "--size", "28-corrected", "--root", dist, "--format", "npz", "--out", tmp_path)
    entry = subset("dermamnist-corrected")
    with pytest.raises(SourceError, match=r"has MD5 \w+, but the catalog has 96e2862980877d45d9cacb5c25de6950"):
        Folder(tmp_path).fetch(entry, 28)


def test_a_repository_holds_them_with_the_official_sizes(dist: Path, hub: HubServer, tmp_path: Path) -> None:
    from medmnist_hf.cards.render import describe

    repo = f"org/{FLAG}"
    api, build, options = hub.api(), read_local(dist / FLAG, allow_synthetic=True), PushOptions(repo)
    push(api, build, plan_push(api, build, options, describe), options, describe)
    state = read_state(api, repo)
    check_state(state)
    assert [manifest.config_name for manifest in state.manifests] == ["28", "28-corrected", "28-extended"]
    assert not state.stores
    again = plan_push(api, build, options, describe)
    assert again.empty
    shutil.copytree(dist / FLAG, tmp_path / "skin")
    put_on_hub(hub, tmp_path / "skin")
    expected = medmnist_hf.load_arrays(FLAG, "28-corrected", "test", dist, cache=False).labels.tolist()
    for name in (repo, "org/skin"):  # a name that identifies the subset, and one that does not
        assert medmnist_hf.load_arrays(name, "28-corrected", "test", cache=False).labels.tolist() == expected


def test_results_on_them_are_never_ranked_with_official_ones() -> None:
    assert published_results("dermamnist-corrected") == ()
    board = leaderboard("dermamnist-corrected", "official", [OwnResult("mine", 0.9, 0.8, 0.01, 0.01)])
    assert [(line.name, line.auc_rank) for line in board.ranked] == [("mine", None)]
    with pytest.raises(ScoreError, match="other test rows than dermamnist, so published results cannot be ranked"):
        invoke("leaderboard", "dermamnist-corrected")
    result = ModelResult("dermamnist-corrected", 28, 0.9, 0.8, Provenance.VERIFIED)
    assert "task_id: 28-corrected_auc" in results_yaml(result, f"org/{FLAG}")
    assert {each.dataset_config for each in card_results(result, f"org/{FLAG}")} == {"28-corrected"}


def test_a_recipe_names_the_variant(dist: Path) -> None:
    for name in ("dermamnist-28-corrected", str(dist / FLAG / "28-corrected")):
        recipe = make_recipe({"dataset": name, "method": "knn"} | ({} if "/" in name else {"root": str(dist)}))
        assert (recipe.dataset, recipe.size, recipe.config) == ("dermamnist-corrected", 28, "28-corrected")
        assert open_config(recipe.source, recipe.config, recipe.root).manifest.config_name == "28-corrected"


def test_builders_have_their_configs() -> None:
    names = set(MedMNIST2D.builder_configs)
    assert {"dermamnist-28", "dermamnist-28-corrected", "dermamnist-224-extended"} <= names
