"""A score card on an engine: it resumes, keeps what is done, and a store that fails keeps its runs from starting."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from medmnist_hf.errors import JobError, SourceError, TrainingError
from medmnist_hf.jobs.settings import Settings
from medmnist_hf.jobs.tasks import State
from medmnist_hf.training.results import read_results
from medmnist_hf.training.scorecard.gather import gather
from medmnist_hf.training.scorecard.tasks import check_here, features_of, read_labels, run_card, states_of
from tests.conftest import Phantoms
from tests.fixtures.scorecards import HereEngine, make_card, make_home, plan_of

FLAG = "breastmnist"


class Distant(HereEngine):
    name, sees_results = "distant", False


class Stopped(HereEngine):
    stop_after = 1


def silent(line: str) -> None:
    """Report nothing."""


def test_an_interrupted_card_resumes(phantoms: Phantoms, tmp_path: Path) -> None:
    home = make_home(phantoms, tmp_path, FLAG)
    plan, cells = plan_of(home, "knn", "shots-1", flags=[FLAG])
    out = home / "card"
    assert {status.state for status in states_of(plan, out).values()} == {State.WAITING}
    with pytest.raises(KeyboardInterrupt):
        run_card(plan, cells, out, Stopped(Settings()), report=silent)
    first, second = (states_of(plan, out)[run.folder].state for run in plan.runs)
    assert (first, second) == (State.DONE, State.WAITING)
    card = gather(out)
    assert not card.is_complete and [each.state for each in card.subsets[0].missing] == ["waiting"]
    results = out / plan.runs[0].folder / "results.json"
    before = results.stat().st_mtime_ns
    lines: list[str] = []
    assert run_card(plan, cells, out, HereEngine(Settings()), report=lines.append)
    assert results.stat().st_mtime_ns == before, "what is done is not repeated"
    assert gather(out).is_complete and "1 of 2 are done already" in lines
    assert features_of(cells[0].recipe) is not None
    shutil.rmtree(home / "features")
    assert run_card(plan, cells, out, HereEngine(Settings()), report=silent)
    assert features_of(cells[0].recipe) is None, "features are not made for runs that are done"
    assert {status.state for status in states_of(plan, out, cells).values()} == {State.DONE}
    labels = read_labels(out, FLAG, 28)
    assert labels.shape == (32,) and set(np.unique(labels)) == {0, 1}
    with pytest.raises(SourceError, match="no such file"):
        read_labels(out, "pathmnist", 28)


def test_a_store_that_fails_keeps_its_runs_from_starting(phantoms: Phantoms, tmp_path: Path) -> None:
    home = make_home(phantoms, tmp_path, FLAG)
    plan, cells = plan_of(home, "knn", "shots-1", flags=[FLAG])
    Path(str(cells[0].recipe.checkpoint)).write_bytes(b"not weights")
    assert run_card(plan, cells, home / "card", HereEngine(Settings()), report=silent)
    (part,) = gather(home / "card").subsets
    assert not part.results and {each.state for each in part.missing} == {"failed"}
    assert {each.reason for each in part.missing} == {"its features: it printed why"}
    assert not list((home / "card").glob("*/results.json"))


def test_runs_on_other_data_or_features_are_refused(home: Path, tmp_path: Path) -> None:
    plan, cells = plan_of(home, "knn", model="timm/test_efficientnet")
    out = tmp_path / "card"
    shutil.copytree(home / "second", out)
    results = out / cells[0].name / "results.json"
    results.write_text(results.read_text().replace(read_results(results).data.source.md5, "0" * 32))
    with pytest.raises(TrainingError, match=r"read other data than there is in .*dist now: name another --out"):
        run_card(plan, cells, out, HereEngine(Settings()), report=silent)
    results.unlink()
    path = out / "stores/breastmnist.json"
    table = json.loads(path.read_text())
    table["model"]["weights_sha256"] = "0" * 64
    path.write_text(json.dumps(table))
    with pytest.raises(TrainingError, match="has runs on features of breastmnist that are not there any more"):
        run_card(plan, cells, out, HereEngine(Settings()), report=silent)


@pytest.mark.slow
def test_protocols_that_train_run_as_well(phantoms: Phantoms, tmp_path: Path) -> None:
    home = make_home(phantoms, tmp_path, FLAG)
    names = ("partial", "lora", "finetune", "zero-shot")
    (part,) = gather(make_card(home, home / "card", *names, preset="full", flags=[FLAG])).subsets
    assert [result.protocol for result in part.results] == ["partial", "lora", "finetune"]
    assert all(result.seeds == (0, 1, 2) and result.train_rows == (64,) * 3 for result in part.results)
    assert [(each.protocol, each.state) for each in part.missing] == [("zero-shot", "left out")]


def test_an_engine_that_keeps_results_elsewhere_is_refused() -> None:
    with pytest.raises(JobError, match="which distant keeps elsewhere: use local, slurm or ray"):
        check_here(Distant(Settings()))
