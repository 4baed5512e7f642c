"""`medmnist_hf.automl.engines`: the facts of every engine, and that what they name is there."""

import re
import tomllib

import pytest

from medmnist_hf.automl.engines import engine, engines
from medmnist_hf.errors import TrainingError
from medmnist_hf.training.recipe import make_recipe, presets
from medmnist_hf.training.registry import METHODS
from tests.fixtures.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("name", [one.name for one in engines()])
def test_what_an_engine_names_is_there(name: str) -> None:
    one = engine(name)
    assert one.name == name and one.title and one.about.endswith(".")
    assert one.adapter.is_file() and set(one.inputs) <= {"pixels", "features", "images"}
    assert all(re.fullmatch(r"3\.\d+", release) for release in one.pythons)
    assert not one.extra or one.extra in PROJECT["optional-dependencies"]
    if one.preset:
        assert one.preset in presets()
        assert make_recipe({"dataset": "breastmnist"}, preset=one.preset).method == name


@pytest.mark.parametrize("name", [one.name for one in engines()])
def test_a_lock_pins_all_by_version_and_hash_and_brings_nothing_for_gpus(name: str) -> None:
    text = engine(name).lock.read_text(encoding="utf-8").replace("\\\n", " ")
    requirements = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(requirements) > 5
    for line in requirements:
        assert re.match(r"[\w.-]+==[\w.+!-]+", line) and "://" not in line, line
        assert not re.match(r"nvidia|triton|cuda|torch", line), line
        assert re.search(r"( +--hash=sha256:[0-9a-f]{64})+$", line), line


def test_every_engine_is_a_method() -> None:
    names = {one.name for one in engines()}
    assert names <= set(METHODS)


def test_an_unknown_engine_is_one_line() -> None:
    with pytest.raises(TrainingError, match="unknown engine 'tpot': choose from flaml, ") as caught:
        engine("tpot")
    assert "\n" not in str(caught.value)
