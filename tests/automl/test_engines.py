"""`medmnist_hf.automl.engines`: the facts about every engine are complete and refer to existing things."""

import re
import tomllib

import pytest

from medmnist_hf.automl.engines import engine, engines
from medmnist_hf.errors import TrainingError
from medmnist_hf.training.recipe import make_recipe, presets
from medmnist_hf.training.registry import METHODS
from tests.fixtures.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("name", [entry.name for entry in engines()])
def test_the_facts_of_an_engine_refer_to_existing_things(name: str) -> None:
    entry = engine(name)
    assert entry.name == name and entry.title and entry.about.endswith(".")
    assert entry.adapter.is_file() and set(entry.inputs) <= {"pixels", "features", "images"}
    assert all(re.fullmatch(r"3\.\d+", release) for release in entry.pythons)
    assert not entry.extra or entry.extra in PROJECT["optional-dependencies"]
    if entry.preset:
        assert entry.preset in presets()
        assert make_recipe({"dataset": "breastmnist"}, preset=entry.preset).method == name


@pytest.mark.parametrize("name", [entry.name for entry in engines()])
def test_a_lock_pins_versions_and_hashes_and_has_no_gpu_packages(name: str) -> None:
    text = engine(name).lock.read_text(encoding="utf-8").replace("\\\n", " ")
    requirements = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(requirements) > 5
    for line in requirements:
        assert re.match(r"[\w.-]+==[\w.+!-]+", line) and "://" not in line, line
        assert not re.match(r"nvidia|triton|cuda|torch", line), line
        assert re.search(r"( +--hash=sha256:[0-9a-f]{64})+$", line), line


def test_every_engine_is_a_method() -> None:
    names = {entry.name for entry in engines()}
    assert names <= set(METHODS)


def test_an_unknown_engine_is_reported_in_one_line() -> None:
    with pytest.raises(TrainingError, match="unknown engine 'tpot': choose from flaml, ") as caught:
        engine("tpot")
    assert "\n" not in str(caught.value)
