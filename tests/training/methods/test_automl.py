"""`medmnist_hf.training.methods.automl`: engines as methods, on phantoms of every task; interruptions and errors."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from accelerate import PartialState  # type: ignore[import-untyped]

from medmnist_hf.automl.engines import Engine
from medmnist_hf.catalog import subset
from medmnist_hf.errors import TrainingError
from medmnist_hf.evaluation.prediction_files import read_predictions
from medmnist_hf.loading.load import load_arrays
from medmnist_hf.scoring.official import score
from medmnist_hf.scoring.predictions import check
from medmnist_hf.training.methods import automl
from medmnist_hf.training.methods.automl import fit
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.results import RESULTS_NAME, read_results
from medmnist_hf.training.running import run
from tests.conftest import Phantoms
from tests.fixtures.automl_engine import tiny_engine
from tests.fixtures.methods import run_of
from tests.fixtures.runs import FLAGS, build_all, tiny

Use = Callable[..., Engine]


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    build_all(phantoms, out, *(flag for flag in FLAGS if flag != "chestmnist"))
    return build_all(phantoms, out, "chestmnist", rows=160)  # fewer have findings too rare for an interval


@pytest.fixture
def use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Use:
    """A function that replaces FLAML by a test engine whose search is the given Python code."""

    def use(body: str, **facts: Any) -> Engine:
        test_engine = tiny_engine(tmp_path, body, **facts)
        monkeypatch.setattr(automl, "engine", lambda name: test_engine)
        return test_engine

    return use


def flaml(root: Path, flag: str, **options: Any) -> Recipe:
    return tiny(root, flag, **{"model": "pixels", "method": "flaml", "trials": 2, **options})


@pytest.mark.parametrize(
    "flag", [flag if flag == "pneumoniamnist" else pytest.param(flag, marks=pytest.mark.slow) for flag in FLAGS]
)
def test_flaml_leaves_the_files_of_a_training_for_every_task(root: Path, tmp_path: Path, flag: str) -> None:
    result = run(flaml(root, flag), tmp_path, quiet=True)
    (seed,) = result.seeds
    entry, facts = subset(flag), seed.facts
    assert facts.inputs == ("flattened voxels" if entry.ndim == 3 else "flattened pixels")
    assert facts.engine.startswith("FLAML 2.") and (facts.search_seconds or 0) > 0 and not facts.partial
    assert facts.further["configuration"] and (facts.trials or 0) >= 2
    assert facts.further.get("one_model_per_finding", False) == (flag == "chestmnist")
    (path,) = (path for path in (tmp_path / "seed-0").iterdir() if "_test_" in path.name)
    labels = load_arrays(flag, 28, "test", root).labels
    test_score = score(check(labels, read_predictions(path).scores, entry.task, from_logits=False))
    assert test_score.acc == result.test.acc.mean and not math.isnan(seed.test["acc_low"])
    assert result.rank is None and not (tmp_path / "seed-0" / "checkpoints").exists()


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["pneumoniamnist", "adrenalmnist3d"])
def test_flaml_on_frozen_features(root: Path, tmp_path: Path, flag: str) -> None:
    result = run(flaml(root, flag, model="timm/test_resnet"), tmp_path, quiet=True)
    assert result.seeds[0].facts.inputs == "features of timm/test_resnet"
    assert result.recipe.model == "timm/test_resnet" and result.test.auc.mean > 0


def test_an_engine_receives_images_labels_and_options(root: Path, tmp_path: Path, use: Use) -> None:
    use(
        "publish(job, x=job.x('train').sum(), y=job.y('train'), shape=job.x('test').shape, kind=job.inputs,"
        " options=[job.task, job.classes, job.seed, job.seconds, job.options])"
    )
    result = run(flaml(root, "retinamnist", seeds=(7,), time_budget=50, epochs=3), tmp_path / "run", quiet=True)
    facts = result.seeds[0].facts.further
    images, labels = load_arrays("retinamnist", 28, "train", root)
    assert facts["x"] == images.sum() and facts["y"] == labels.tolist()
    assert facts["shape"][1:] == [28 * 28 * 3] and facts["kind"] == "pixels"
    assert facts["options"] == ["ordinal-regression", 5, 7, 50.0, {"epochs": 3, "trials": 2}]


@pytest.mark.parametrize(("flag", "description"), [("bloodmnist", "images"), ("adrenalmnist3d", "volumes")])
def test_an_engine_for_images_receives_them_unchanged(
    root: Path, tmp_path: Path, use: Use, flag: str, description: str
) -> None:
    use("publish(job, shape=job.x('train').shape[1:], kind=job.inputs)", inputs=("images",))
    facts = run(flaml(root, flag), tmp_path / "run", quiet=True).seeds[0].facts
    assert facts.further["shape"] == list(load_arrays(flag, 28, "train", root).images.shape[1:])
    assert (facts.further["kind"], facts.inputs) == ("images", description)


def test_an_engine_receives_few_labels(root: Path, tmp_path: Path, use: Use) -> None:
    """It selects on the same validation rows that are scored, and test is whole."""
    use("""
assert np.bincount(job.y("train")).tolist() == [3, 3] and len(job.y("validation")) == len(job.x("validation"))
publish(job, shapes=[len(job.x(split)) for split in ("train", "validation", "test")])
""")
    result = run(flaml(root, "pneumoniamnist", shots=3, few_validation=True, seeds=(0, 1)), tmp_path, quiet=True)
    rows = result.data.rows
    for seed in result.seeds:
        assert seed.facts.further["shapes"] == [6, seed.data.chosen["validation"].count, rows["test"]]
        assert seed.data.chosen["train"].count == 6
    assert result.ensemble is not None
    first, second = (seed.data.chosen for seed in result.seeds)
    assert first["train"].sha256 != second["train"].sha256 and first["validation"] == second["validation"]


def test_the_test_split_is_not_scored_if_the_recipe_says_so(root: Path, tmp_path: Path, use: Use) -> None:
    use("publish(job)")
    result = run(flaml(root, "bloodmnist", test=False), tmp_path / "run", quiet=True)
    assert result.test == {} and result.validation.auc.mean > 0


def test_the_output_of_an_engine_goes_to_standard_error(
    root: Path, tmp_path: Path, use: Use, capfd: pytest.CaptureFixture[str]
) -> None:
    use("print('half way')\npublish(job)")
    run(flaml(root, "bloodmnist", seeds=(1,)), tmp_path / "loud")
    assert "half way\n" in capfd.readouterr().err
    run(flaml(root, "bloodmnist", seeds=(1,)), tmp_path / "quiet", quiet=True)
    assert "half way" not in "".join(capfd.readouterr())


@pytest.mark.slow
def test_a_killed_search_is_partial_and_repeated_while_other_seeds_are_kept(
    root: Path, tmp_path: Path, use: Use
) -> None:
    use("publish(job, anew=True)\nos.kill(os.getpid(), signal.SIGKILL if job.seed == 0 else 0)")
    recipe = flaml(root, "bloodmnist", seeds=(0, 1))
    result = run(recipe, tmp_path / "run", quiet=True)
    assert result.seeds[0].facts.partial.startswith("killed by SIGKILL after")
    assert not result.seeds[1].facts.partial and result.test.auc.mean > 0
    assert [path for path in (tmp_path / "run" / "seed-0").iterdir() if "_test_" in path.name]
    assert read_results(tmp_path / "run" / RESULTS_NAME).to_json() == result.to_json()

    use("assert job.seed == 0\npublish(job, again=True)")
    second = run(recipe, tmp_path / "run", quiet=True)
    assert not any(seed.facts.partial for seed in second.seeds)
    assert second.seeds[0].facts.further["again"] and second.seeds[1] == result.seeds[1]
    assert not (tmp_path / "run" / "seed-0" / "checkpoints").exists()


@pytest.mark.slow
def test_ctrl_c_keeps_the_best_so_far_and_the_same_call_resumes(
    root: Path, tmp_path: Path, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = "before = job.published_facts()\npublish(job, before=bool(before), tried=(job.state / 'x').exists())\n"
    body += "(job.state / 'x').touch()\nif not before:\n    os.kill(os.getppid(), signal.SIGINT)\n    time.sleep(60)"
    use(body, resumes=True)
    recipe = flaml(root, "bloodmnist", seeds=(0, 1))
    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path / "run", quiet=True)
    result = read_results(tmp_path / "run" / RESULTS_NAME)
    (seed,) = result.seeds
    assert seed.seed == 0 and seed.facts.partial.startswith("stopped after") and result.test.auc.mean > 0

    with pytest.raises(KeyboardInterrupt):  # in the second seed
        run(recipe, tmp_path / "run", quiet=True)
    first, second = (seed.facts for seed in read_results(tmp_path / "run" / RESULTS_NAME).seeds)
    assert not first.partial and first.further["before"] and first.further["tried"]
    assert second.partial.startswith("stopped after")
    assert not any(seed.facts.partial for seed in run(recipe, tmp_path / "run", quiet=True).seeds)


def test_a_search_without_a_model_is_a_one_line_error_and_leaves_no_result(
    root: Path, tmp_path: Path, use: Use
) -> None:
    use("raise SearchError('a time budget of 1 s is too small for one trial')")
    with pytest.raises(TrainingError, match=r"^Tiny: a time budget of 1 s is too small"):
        run(flaml(root, "bloodmnist"), tmp_path / "run", quiet=True)
    assert not list((tmp_path / "run").rglob("result*.json"))


def test_a_missing_engine_is_an_error_before_anything_is_computed(
    root: Path, tmp_path: Path, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_engine = use("publish(job)", extra="flaml")
    test_engine.adapter.write_text("import no_such_package")
    recipe = flaml(root, "bloodmnist", model="timm/test_resnet")
    monkeypatch.setattr(automl, "split_features", lambda *_: pytest.fail("too early"))
    with pytest.raises(TrainingError, match=r"pip install 'medmnist-hf\[flaml\]', or medmnist-hf automl-env"):
        fit(run_of(recipe), 0, tmp_path / "seed")
    assert not (tmp_path / "seed").exists()


def test_several_processes_are_refused(root: Path, tmp_path: Path, use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    use("publish(job)")
    monkeypatch.setattr(PartialState(), "num_processes", 2)
    with pytest.raises(TrainingError, match="method flaml runs in one process: start it without a launcher"):
        fit(run_of(flaml(root, "bloodmnist")), 0, tmp_path)
