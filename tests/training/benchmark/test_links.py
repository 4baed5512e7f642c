"""`medmnist_hf.training.benchmark.links`: links to existing files of the published seed."""

from pathlib import Path
from urllib.parse import unquote

import pytest

from medmnist_hf.training.benchmark.links import links_of
from medmnist_hf.training.results import RESULTS_NAME, read_results
from tests.fixtures.benchmarks import leave_run

PREDICTIONS = "breastmnist_test_[AUC]0.900_[ACC]0.800@seed1.csv"


@pytest.mark.parametrize("name", ["run", "a/b c?#%/javascript:alert(1)"])
def test_links_point_to_the_files_of_the_published_seed(tmp_path: Path, name: str) -> None:
    run = tmp_path / name
    leave_run(run, test=[0.8, 0.9], validation=[0.5, 0.6], dataset="breastmnist")
    result = read_results(run / RESULTS_NAME)
    assert [link.text for link in links_of(result, run, tmp_path)] == [name, "results"]
    for seed in (0, 1):
        for file in (f"seed-{seed}/best/README.md", f"seed-{seed}/figures/curves.png", f"seed-{seed}/{PREDICTIONS}"):
            (run / file).parent.mkdir(parents=True, exist_ok=True)
            (run / file).touch()
    (run / "log.txt").touch()
    links = {link.text: link.address for link in links_of(result, run, tmp_path)}
    assert {text: unquote(address) for text, address in links.items()} == {
        name: f"./{name}/",
        "card": f"./{name}/seed-1/best/README.md",
        "curves": f"./{name}/seed-1/figures/curves.png",
        "predictions": f"./{name}/seed-1/{PREDICTIONS}",
        "results": f"./{name}/results.json",
        "log": f"./{name}/log.txt",
    }
    assert all((tmp_path / unquote(address)).exists() for address in links.values())
    assert not any(set(address.removeprefix("./")) & set("?#:[]<> ") for address in links.values())


def test_a_run_that_is_the_folder_itself(tmp_path: Path) -> None:
    leave_run(tmp_path / "run", test=[0.8], validation=[0.5], dataset="breastmnist")
    links = links_of(read_results(tmp_path / "run" / RESULTS_NAME), tmp_path / "run", tmp_path / "run")
    assert [(link.text, link.address) for link in links] == [("this folder", "./"), ("results", "./results.json")]
