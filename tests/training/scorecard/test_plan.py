"""The runs of a score card: presets suit every subset, what does not apply is left out, and mistakes are named."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from transformers import CLIPConfig

from medmnist_hf.catalog import subsets
from medmnist_hf.errors import CatalogError, TrainingError
from medmnist_hf.own_code.names import MODEL_FILE, pin_code, public_code
from medmnist_hf.training.run_folder import run_name
from medmnist_hf.training.scorecard.plan import (
    PLAN_NAME,
    Plan,
    check_model,
    make_plan,
    preset,
    preset_names,
    read_plan,
    write_plan,
)
from tests.fixtures.own_code import write_code

ALL = [{"dataset": entry.flag} for entry in subsets()]
USUAL = {"features": "stores", "image_size": "auto", "volumetric": "2.5d"}


def plan(*protocols: str, name: str = "quick", data: Any = ALL[:1], **options: Any) -> Plan:
    return make_plan(data, {"model": "timm/resnet18", **options}, name, protocols, usual=USUAL)[0]


@pytest.mark.parametrize("name", preset_names())
def test_presets_suit_every_subset(name: str) -> None:
    planned, cells = make_plan(ALL, {"model": "timm/resnet18"}, name, usual=USUAL)
    assert [run.folder for run in planned.runs] == [cell.name for cell in cells]
    assert len({run.subset for run in planned.runs}) == 18
    assert len({run.folder for run in planned.runs}) == len(planned.runs)
    for run, cell in zip(planned.runs, cells, strict=True):
        recipe = cell.recipe
        few = recipe.shots is not None or recipe.fraction is not None
        assert recipe.scores_only and (recipe.features == "stores" or recipe.method == "lora" or recipe.probe_first)
        assert recipe.image_size == (None if recipe.subset.ndim == 3 else "auto"), "a volume is not enlarged"
        assert recipe.few_validation == few and (not few or len(recipe.seeds) == preset(name).label_seeds)
        assert "seeds" not in run.definition and f"method {recipe.method}" in run.definition
    reasons = {(each.protocol, each.reason) for each in planned.left_out}
    assert (("lora", "lora reads only images, but organmnist3d has volumes") in reasons) == (name != "quick")
    assert (("zero-shot", "timm/resnet18 has no text tower") in reasons) == (name == "full")


def test_zero_shot_is_left_out_without_a_text_tower_unless_asked_for_alone(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no protocol applies to timm/resnet18: timm/resnet18 has no text tower"):
        plan("zero-shot", name="full")
    CLIPConfig().save_pretrained(tmp_path)
    planned = plan("zero-shot", "knn", name="full", model=str(tmp_path))
    assert [run.protocol for run in planned.runs] == ["zero-shot", "knn"]
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    (left,) = plan("zero-shot", "knn", name="full", model=f"{tmp_path}/.").left_out
    assert "has no text tower" in left.reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "huge"}, "unknown preset 'huge': choose from quick, standard, full"),
        ({"protocols": ["knm"]}, "preset quick has no protocol 'knm': choose from knn, linear-probe"),
        ({"data": ALL[:1] * 2}, f"{ALL[0]['dataset']} is named twice: make a score card for each size or build"),
        ({"data": [{"dataset": "pathmnist"}], "depth_stride": True}, "--depth-stride would change nothing"),
        ({"pretrained": False}, "a network without weights has others for each seed: give --checkpoint"),
        ({"data": [{"dataset": "pathmnst"}]}, "pathmnst"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], message: str) -> None:
    given = dict(options)
    protocols = given.pop("protocols", ())
    with pytest.raises((TrainingError, CatalogError), match=message):
        plan(*protocols, **given)


def test_the_title_of_a_local_model_is_its_name(tmp_path: Path) -> None:
    planned = plan("knn", model=str(tmp_path))
    assert (planned.model, planned.title) == (str(tmp_path), tmp_path.name)
    assert plan("knn").title == "timm/resnet18"


def test_an_option_that_some_runs_read_is_kept() -> None:
    data = [{"dataset": "pathmnist"}, {"dataset": "organmnist3d"}]
    _, cells = make_plan(data, {"model": "timm/resnet18", "depth_stride": True}, usual=USUAL)
    assert Counter(cell.recipe.depth_stride for cell in cells) == {False: 7, True: 7}


def test_the_folder_keeps_its_plan_and_refuses_another_model(tmp_path: Path) -> None:
    out = tmp_path / "card"
    assert read_plan(out) is None
    written = plan(name="full", data=[{"dataset": "organmnist3d"}, {"dataset": "pathmnist"}])
    write_plan(out, written)
    assert read_plan(out) == written and written.sizes == {"organmnist3d": 28, "pathmnist": 28}
    check_model(out, "timm/resnet18")
    with pytest.raises(TrainingError, match="holds the score card of timm/resnet18, not of timm/other: name another"):
        check_model(out, "timm/other")
    (out / PLAN_NAME).write_text("{}")
    with pytest.raises(TrainingError, match=r"plan\.json is damaged \(another format version\)"):
        read_plan(out)
    (out / PLAN_NAME).unlink()
    (out / PLAN_NAME).mkdir()
    with pytest.raises(TrainingError, match=r"cannot read .*plan\.json"):
        read_plan(out)


def test_runs_name_the_version_of_a_file_of_the_user(tmp_path: Path) -> None:
    file = write_code(tmp_path)
    planned, cells = make_plan(ALL[:1], {"model": f"{file}:features"}, usual=USUAL)
    pinned = pin_code(f"{file}:features", MODEL_FILE)
    assert planned.model == pinned and {cell.recipe.model for cell in cells} == {pinned}
    assert planned.title == public_code(pinned) and planned.runs[0].folder == run_name(cells[0].recipe)
    write_plan(tmp_path / "card", planned)
    write_code(tmp_path, "def features(in_channels): pass\n")
    with pytest.raises(TrainingError, match="holds the score card of"):
        check_model(tmp_path / "card", make_plan(ALL[:1], {"model": f"{file}:features"}, usual=USUAL)[0].model)
    with pytest.raises(TrainingError, match=r"no protocol applies to .*: my\.py:features#\w{16} has no text tower"):
        plan("zero-shot", name="full", model=f"{file}:features")
