"""`medmnist_hf.training.results`: results survive writing and reading, and damaged files are refused."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from medmnist_hf.catalog import subset
from medmnist_hf.conversion.build import build_config
from medmnist_hf.conversion.sources.source import Folder
from medmnist_hf.data.configs import open_config
from medmnist_hf.errors import TrainingError
from medmnist_hf.manifest import Provenance
from medmnist_hf.training.recipe import make_recipe
from medmnist_hf.training.results import (
    SEED_RESULT_NAME,
    DataRecord,
    EnsembleResult,
    Facts,
    Hardware,
    Measures,
    RunResult,
    SeedResult,
    Spread,
    check_complete,
    digits,
    read_results,
    read_seed,
)
from medmnist_hf.training.scoring import summarize
from tests.conftest import Phantoms
from tests.fixtures.benchmarks import data_of
from tests.fixtures.hub.server import HubServer
from tests.fixtures.on_hub import put_on_hub

REPORT: dict[str, Any] = {
    "tried": {"0.1": 0.5, "1": math.nan},
    "origin": "random weights",
    "history": [{"epoch": 1.0, "loss": 0.5, "step": 3}, {"epoch": 1.0, "eval_auc": math.nan}],
    "best_epoch": 1,
    "strength": 0.1,
    "seconds": 2.5,
    "hardware": Hardware("x86_64", 2, ("GPU",)),
    "releases": {"torch": "2"},
}


DATA = data_of(make_recipe({"dataset": "breastmnist"}))


def seed_of(seed: int, **report: Any) -> SeedResult:
    test = Measures(auc=0.7 + seed / 10, acc=0.6, macro_f1=0.5, auc_low=math.nan, auc_high=math.nan)
    per_class = {"malignant": {"auc": 0.7, "f1": math.nan}}
    facts = Facts.from_json_value(REPORT | report)
    return SeedResult(seed, Measures(auc=math.nan, acc=0.5), test, per_class, facts, DATA)


def result_of(*seeds: SeedResult) -> RunResult:
    recipe = make_recipe(
        {"dataset": "breastmnist", "seeds": tuple(seed.seed for seed in seeds), "learning_rate": 1e-4}
    )
    first = seeds[0]
    return summarize(recipe, seeds, EnsembleResult(first.validation, first.test, first.per_class))


def test_results_survive_reading_and_writing_to_the_byte() -> None:
    result = result_of(seed_of(0), seed_of(1))
    text = result.to_json()
    reread = RunResult.from_json(text, "it")
    assert reread.to_json() == text and reread.recipe == result.recipe
    assert repr(reread) == repr(result), "compared as text, since nan differs from itself"
    table = json.loads(text)
    assert list(table)[:6] == ["dataset", "size", "model", "method", "provenance", "recipe"]
    assert table["provenance"] == "verified" and table["runs"][0]["data"]["rows"]["test"] == 156
    assert table["recipe"]["learning_rate"] == 1e-4 and table["recipe"]["seeds"] == [0, 1]
    assert list(table["runs"][0]["facts"]) == list(REPORT), "a report keeps its order"
    assert text.endswith("}\n") and "NaN" not in text


def test_a_single_seed_has_no_standard_deviation() -> None:
    one, two = result_of(seed_of(0)), result_of(seed_of(0), seed_of(1))
    table = json.loads(one.to_json())
    assert table["test"]["acc"] == {"mean": 0.6, "std": None} and table["test"]["auc"]["std"] is None
    assert RunResult.from_json(one.to_json(), "it").test.acc == Spread(0.6, None)
    assert str(one.test.acc) == "0.600" and str(one.validation.auc) == "-"
    assert two.test.acc.std == 0 and str(two.test.acc) == "0.600 ± 0.000", "two equal seeds have a deviation of 0"
    assert two.validation.auc.std is None and str(two.validation.auc) == "-", "a seed without a value"


def test_numbers_that_are_not_finite_are_null_in_json_and_nan_in_memory() -> None:
    text = seed_of(3, history=[{"epoch": 1.0, "grad_norm": math.inf}]).to_json()
    assert json.loads(text)["validation"] == {"auc": None, "acc": 0.5}
    seed = SeedResult.from_json(text, "it")
    assert math.isnan(seed.validation.auc) and math.isnan(seed.per_class["malignant"]["f1"])
    assert math.isnan(seed.facts.history[0]["grad_norm"])
    assert digits(0.12349) == "0.123"


def test_known_values_of_a_report_are_typed() -> None:
    facts = seed_of(0).facts
    assert (facts.origin, facts.best_epoch, facts.seconds, facts.partial) == ("random weights", 1, 2.5, "")
    assert facts.hardware == Hardware("x86_64", 2, ("GPU",)) and str(facts.hardware) == "GPU"
    assert str(Hardware("x86_64", 2, ())) == "x86_64, 2 cores"
    assert facts.further == {"tried": {"0.1": 0.5, "1": None}, "strength": 0.1} and facts.trials is None


def test_a_seed_result_is_read_from_its_folder(tmp_path: Path) -> None:
    assert read_seed(tmp_path) is None
    (tmp_path / SEED_RESULT_NAME).write_text(seed_of(2).to_json())
    assert repr(read_seed(tmp_path)) == repr(seed_of(2))


def changed(text: str, path: list[Any], value: object = None, *, remove: bool = False) -> str:
    """JSON with one value changed or removed."""
    table = part = json.loads(text)
    for name in path[:-1]:
        part = part[name]
    if remove:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return json.dumps(table)


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (["seed"], "0", "seed is '0', must be an integer"),
        (["seed"], True, "seed is True, must be an integer"),
        (["seed"], 0.5, "seed is 0.5, must be an integer"),
        (["test", "auc"], "0.9", "test.auc is '0.9', must be a number"),
        (["test"], {"acc": 0.5}, "measures lack auc or acc"),
        (["per_class"], [], r"per_class is \[\], must be an object"),
        (["facts", "hardware", "gpus"], "T", "facts.hardware.gpus is 'T', must be a list"),
        (
            ["facts", "hardware", "ram"],
            1,
            "facts.hardware has an unknown attribute 'ram': choose from processor, cores, gpus",
        ),
        (["facts", "history"], [1], r"facts.history\[0\] is 1, must be an object"),
        (["facts", "origin"], None, "facts.origin is None, must be text"),
        (["seed"], -1, "seed is -1, must be an integer from 0 to 4294967295"),
        (["test", "auc"], 1.01, "auc is 1.01, must be from 0 to 1"),
        (["test", "auc_low"], 1e308, r"test.auc_low is 1e\+308, must be a number from -100 to 100"),
        (["per_class", "malignant", "f1"], 1e308, r"per_class.malignant.f1 is 1e\+308, must be a number from .*"),
        (["facts", "trained_parameters"], "9", "facts.trained_parameters is '9', must be an integer"),
        (["facts", "seconds"], 1e308, r"facts.seconds is 1e\+308, must be a number from 0 to .*"),
        (["facts", "origin"], "a\x1b[31m", r"facts.origin holds control characters: 'a\\x1b\[31m'"),
        (["facts", "other\n"], 1, r"facts holds control characters: 'other\\n'"),
        (["facts", "hardware", "gpus"], ["\ud800"], r"'\\ud800' holds half of a surrogate pair"),
        (["other"], 1, "it has an unknown attribute 'other': choose from seed, .*"),
        (["provenance"], "synthetic", "provenance does not match its data"),
        (["provenance"], None, "provenance does not match its data"),
        (["data", "source", "verified"], 1, "data.source.verified is 1, must be true or false"),
        (["data", "source", "kind"], "phantom", "provenance does not match its data"),
        (["data", "rows", "test"], "156", "data.rows.test is '156', must be an integer"),
    ],
)
def test_values_of_the_wrong_type_are_refused(path: list[Any], value: object, reason: str) -> None:
    with pytest.raises(TrainingError, match=rf"^a/result\.json is damaged \({reason}\): remove it and run again$"):
        SeedResult.from_json(changed(seed_of(0).to_json(), path, value), "a/result.json")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: "{", "Expecting property name"),
        (lambda text: "[]", r"it is \[\], must be an object"),
        (lambda text: "[" * 100_000, "nested deeper"),
        (lambda text: changed(text, ["runs"], remove=True), "it lacks runs"),
        (lambda text: changed(text, ["runs"], []), "runs is empty"),
        (lambda text: changed(text, ["runs"], [3]), r"runs\[0\] is 3, must be an object"),
        (lambda text: changed(text, ["runs", 1, "facts"], remove=True), r"runs\[1\] lacks facts"),
        (lambda text: changed(text, ["recipe"], 3), "recipe is 3, must be an object"),
        (lambda text: changed(text, ["recipe", "epochs"], "many"), "epochs is 'many'"),
        (lambda text: changed(text, ["recipe", "dataset"], "imagenet"), "imagenet"),
        (lambda text: changed(text, ["dataset"], "pathmnist"), "do not match its recipe"),
        (lambda text: changed(text, ["dataset"], remove=True), "do not match its recipe"),
        (lambda text: changed(text, ["test", "auc", "mean"], []), r"test.auc.mean is \[\], must be a number"),
        (lambda text: changed(text, ["rank"], {"auc": 1}), "rank lacks acc"),
        (lambda text: changed(text, ["recipe", "root"], []), r"root is \[\]: must be str"),
        (lambda text: changed(text, ["recipe", "model"], "a\nb"), "must be text without control characters"),
        (lambda text: changed(text, ["recipe", "seeds"], [10**9, 10**10]), "seeds are"),
        (lambda text: changed(text, ["test", "acc", "mean"], 1e308), "test.acc.mean is 1e"),
        (lambda text: changed(text, ["test", "acc", "std"], -1), "test.acc.std is -1, must be"),
        (lambda text: changed(text, ["rank", "auc"], -1), "rank.auc is -1, must be"),
        (lambda text: changed(text, ["provenance"], "synthetic"), "do not match its recipe and data"),
        (lambda text: changed(text, ["provenance"], remove=True), "do not match its recipe and data"),
        (lambda text: changed(text, ["runs", 1, "data", "rows", "test"], 3), "its seeds were run on different data"),
        (lambda text: text.replace(DATA.source.md5, "0" * 32), "is marked verified but is not the official file"),
        (lambda text: text.replace('"zenodo"', '"phantom"'), "is marked verified but is not the official file"),
        (lambda text: changed(text, ["releases", "torch"], 2), "releases.torch is 2, must be text"),
    ],
)
def test_a_damaged_file_is_a_one_line_error(change: Callable[[str], str], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(change(result_of(seed_of(0), seed_of(1)).to_json()), encoding="utf-8")
    with pytest.raises(TrainingError, match=reason) as caught:
        read_results(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is damaged (") and message.endswith("): remove it and run again")
    assert "\n" not in message


def test_an_unreadable_file_is_a_one_line_error(tmp_path: Path) -> None:
    path = tmp_path / SEED_RESULT_NAME
    with pytest.raises(TrainingError, match=rf"cannot read .*{SEED_RESULT_NAME} \(No such file .*: remove it and run"):
        read_results(path)
    path.write_bytes(b"\xff")
    for read in (partial(read_results, path), partial(read_seed, tmp_path)):
        with pytest.raises(TrainingError, match=r"result.json is damaged \(it is not UTF-8\): remove it and"):
            read()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(TrainingError, match=r"cannot read .* \(it is not a regular file\)"):
        read_results(path)
    assert read_seed(tmp_path) is None


def test_interrupted_and_missing_seeds_are_partial() -> None:
    assert result_of(seed_of(0), seed_of(1)).partial == ()
    result = result_of(seed_of(0), seed_of(1, partial="killed"))
    assert result.partial == (1,)
    with_missing = replace(result, recipe=replace(result.recipe, seeds=(0, 1, 7)))
    assert with_missing.partial == (1, 7)


@pytest.mark.parametrize("provenance", Provenance)
def test_both_files_begin_with_the_provenance(provenance: Provenance) -> None:
    recipe = make_recipe({"dataset": "breastmnist"})
    seed = replace(seed_of(0), data=data_of(recipe, provenance, {"train": 8, "validation": 4, "test": 6}))
    assert next(iter(json.loads(seed.to_json()).items())) == ("provenance", provenance.value)
    result = summarize(recipe, [seed])
    assert json.loads(result.to_json())["provenance"] == provenance.value
    reread = RunResult.from_json(result.to_json(), "it")
    assert reread.provenance is provenance and reread.data == seed.data


@pytest.mark.parametrize("kind", Provenance)
def test_the_provenance_comes_from_the_manifest_of_a_folder_or_the_hub(
    kind: Provenance, hub: HubServer, phantoms: Phantoms, real_data: Path, tmp_path: Path
) -> None:
    """For a phantom, the official file, and a file that differs from it."""
    entry, npz = subset("breastmnist"), tmp_path / "npz"
    npz.mkdir()
    (npz / "breastmnist.npz").write_bytes((real_data / "breastmnist.npz").read_bytes() + b"\0")
    folder = Folder(npz, allow_unverified=True) if kind is Provenance.UNVERIFIED else Folder(real_data)
    file = phantoms(entry.flag) if kind is Provenance.SYNTHETIC else folder.fetch(entry, 28)
    build_config(entry, 28, file, tmp_path / "dist")
    record = DataRecord.of(open_config(entry.flag, 28, tmp_path / "dist"))
    assert record.provenance is kind and record.rows["test"] == (8 if kind is Provenance.SYNTHETIC else 156)
    put_on_hub(hub, tmp_path / "dist" / entry.flag)
    assert DataRecord.of(open_config(f"org/{entry.flag}", 28)) == record


def test_an_interrupted_search_is_a_one_line_error() -> None:
    check_complete(result_of(seed_of(0)))
    with pytest.raises(TrainingError) as caught:
        check_complete(result_of(seed_of(0), seed_of(1, partial="killed by SIGKILL after 34 s")))
    assert str(caught.value) == (
        "results are partial (seed 1 killed by SIGKILL after 34 s): run the same command again to resume"
    )
