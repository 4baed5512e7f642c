"""The steps of ``docs/contributing/add-a-method.md``, with the module and the line from the page."""

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

from medmnist_hf.errors import TrainingError
from medmnist_hf.evaluation.prediction_files import read_predictions
from medmnist_hf.training import methods, registry
from medmnist_hf.training.benchmark.boards import gather
from medmnist_hf.training.recipe import make_recipe
from medmnist_hf.training.results import RESULTS_NAME, read_results
from medmnist_hf.training.running import run
from tests.conftest import Phantoms
from tests.fixtures.paths import ROOT
from tests.fixtures.runs import build_all, tiny

NAME = "nearest-centroid"
PAGE = (ROOT / "docs" / "contributing" / "add-a-method.md").read_text(encoding="utf-8")


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the method of the page: its module to the package of methods, its line to the registry."""
    module, line = (textwrap.dedent(code) for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL))
    folder = tmp_path / "methods"
    folder.mkdir()
    (folder / "nearest_centroid.py").write_text(module, encoding="utf-8")
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(folder)])
    entry = eval(line, vars(registry))
    monkeypatch.setitem(registry.METHODS, entry.name, entry)


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize("flag", ["bloodmnist", "adrenalmnist3d"])
def test_a_run_scores_the_method_and_a_report_names_it(phantoms: Phantoms, tmp_path: Path, flag: str) -> None:
    root = build_all(phantoms, tmp_path / "dist", flag)
    recipe = tiny(root, flag, method=NAME, seeds=(0, 1))
    results = run(recipe, tmp_path / "runs" / "one", quiet=True)
    for seed in (0, 1):
        (predictions,) = (tmp_path / "runs" / "one" / f"seed-{seed}").glob("*_test_*.csv")
        scores = read_predictions(predictions).scores
        assert np.allclose(scores.sum(1), 1) and np.ptp(scores, axis=0).max() > 0
    assert results.to_json() == (tmp_path / "runs" / "one" / RESULTS_NAME).read_text(encoding="utf-8")
    assert results.recipe == read_results(tmp_path / "runs" / "one" / RESULTS_NAME).recipe == recipe
    assert [seed.seed for seed in results.seeds] == [0, 1] and results.test["auc"].mean > 0
    (board,) = gather(tmp_path / "runs")
    assert board.chosen is not None and board.chosen.method == NAME


@pytest.mark.usefixtures("added")
def test_unsupported_data_gives_a_one_line_error_and_no_model_is_left(phantoms: Phantoms, tmp_path: Path) -> None:
    root = build_all(phantoms, tmp_path / "dist", "chestmnist")
    with pytest.raises(TrainingError, match=r"^method nearest-centroid is for classes, but chestmnist has findings"):
        run(tiny(root, "chestmnist", method=NAME), tmp_path / "run", quiet=True)
    assert not registry.method(NAME).leaves_model


def test_without_its_line_the_method_is_unknown() -> None:
    with pytest.raises(
        TrainingError, match="method is 'nearest-centroid': choose from finetune, partial, linear-probe, "
    ):
        make_recipe({"dataset": "bloodmnist", "method": NAME})
