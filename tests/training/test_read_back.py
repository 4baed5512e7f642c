"""A pushed model gives the run's predictions when loaded by a pipeline, by timm, and by the example of its card."""

# Methods of transformers' classes carry no types.
# mypy: allow-untyped-calls

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import timm
import torch
import transformers
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from transformers import ViTImageProcessor, pipeline

import medmnist_hf
from medmnist_hf.cards.render import write_card
from medmnist_hf.catalog import subset
from medmnist_hf.conversion.build import build_config
from medmnist_hf.conversion.sources.source import Folder
from medmnist_hf.evaluation.prediction_files import read_predictions
from medmnist_hf.training.models.wrappers import NetworkForImageClassification
from medmnist_hf.training.publish import push_model
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.running import run
from tests.conftest import Phantoms
from tests.fixtures.hub.server import HubServer
from tests.fixtures.on_hub import put_on_hub
from tests.fixtures.runs import build_all, tiny
from tests.fixtures.tiny_models import vit

ID = "org/tiny"
SMALL = ("pneumoniamnist", "bloodmnist", "retinamnist", "adrenalmnist3d")
SHOWN = 16
"""Number of images whose scores are compared."""

EXAMPLES = """
import sys
from pathlib import Path
for path in sys.argv[1:]:
    print(f"# {path}")
    exec(Path(path).read_text(), {})
"""


@dataclass(frozen=True)
class Case:
    """A combination of how a model is saved and how its outputs become scores."""

    dataset: str
    options: dict[str, Any]


CASES = {
    "timm": Case("bloodmnist", {}),
    "timm, gray": Case("pneumoniamnist", {"channels": "images"}),
    "timm, by lora": Case("pneumoniamnist", {"method": "lora", "lora_rank": 2}),
    "timm, in part": Case("bloodmnist", {"method": "partial", "unfreeze": 0.2}),
    "timm, findings": Case("chestmnist", {}),
    "timm, grades": Case("retinamnist", {"loss": "ordinal"}),
    "transformers": Case("bloodmnist", {"model": "vit", "image_size": 32, "method": "linear-probe"}),
    "paper": Case("bloodmnist", {"model": "resnet18", "method": "linear-probe"}),
    "paper, gray": Case("pneumoniamnist", {"model": "resnet18", "method": "linear-probe", "channels": "images"}),
}

FAST = {"timm", "timm, grades", "transformers", "paper, gray"}
"""Cases that cover each way of saving and scoring once; the others are marked slow."""


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = build_all(phantoms, tmp_path_factory.mktemp("dist"), *SMALL)
    return build_all(phantoms, out, "chestmnist", rows=160)  # fewer have findings too rare for an interval


@pytest.fixture(autouse=True)
def reader(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reset the client of `transformers`, which keeps the address of the first Hub it used."""
    monkeypatch.setattr(transformers.utils.hub, "_hf_api", None)


def run_and_push(hub: HubServer, recipe: Recipe, folder: Path, repo_id: str = ID) -> None:
    """Run a recipe in a folder, push its model, and clear the log of requests."""
    run(recipe, folder, quiet=True)
    push_model(hub.api(), folder, repo_id)
    hub.log.clear()


def predictions(folder: Path) -> npt.NDArray[np.float64]:
    (file,) = (path for path in (folder / "seed-0").glob("*.csv") if "_test_" in path.name)
    return read_predictions(file).scores


def scores_of(classify: Any, images: npt.NDArray[np.uint8], dataset: str) -> npt.NDArray[np.float64]:
    """Scores of a pipeline in the order of the labels; for an ordinal model, computed as its card describes."""
    names = subset(dataset).labels
    answers = [classify(Image.fromarray(image), top_k=len(names)) for image in images]
    by_label = [{item["label"]: item["score"] for item in answer} for answer in answers]
    if names[0] in by_label[0]:
        return np.array([[scores[name] for name in names] for scores in by_label])
    above = np.array([[1.0, *(scores[f"above {name}"] for name in names[:-1]), 0.0] for scores in by_label])
    above = np.minimum.accumulate(above, 1)
    return np.asarray(above[:, :-1] - above[:, 1:])


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_a_pipeline_gives_the_predictions_of_the_run(hub: HubServer, root: Path, tmp_path: Path, name: str) -> None:
    dataset, options = CASES[name].dataset, dict(CASES[name].options)
    if options.get("model") == "vit":
        options["model"] = str(tmp_path / "vit")
        vit().save_pretrained(tmp_path / "vit")  # type: ignore[operator]
        ViTImageProcessor(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4]).save_pretrained(tmp_path / "vit")
        options["pretrained"] = True
    run_and_push(hub, tiny(root, dataset, **options), tmp_path / "run")
    classify = pipeline("image-classification", model=ID)
    assert hub.log.find("GET", "/org/tiny/resolve/")
    images = medmnist_hf.load_arrays(dataset, 28, "test", root).images[:SHOWN]
    scores, expected = scores_of(classify, images, dataset), predictions(tmp_path / "run")[:SHOWN]
    assert np.ptp(expected, axis=0).max() > 1e-3, "all images have the same scores"
    assert scores.shape == expected.shape and np.abs(scores - expected).max() < 1e-4


def test_timm_loads_a_timm_network(hub: HubServer, root: Path, tmp_path: Path) -> None:
    """With the code that the Hub shows for models of the library timm."""
    run_and_push(hub, tiny(root, "bloodmnist"), tmp_path / "run")
    model = timm.create_model(f"hf_hub:{ID}", pretrained=True).eval()
    images = medmnist_hf.load_arrays("bloodmnist", 28, "test", root).images[:SHOWN]
    transform = create_transform(**resolve_data_config(model.pretrained_cfg))
    with torch.inference_mode():
        logits = model(torch.stack([transform(Image.fromarray(image)) for image in images]))
    expected = predictions(tmp_path / "run")[:SHOWN]
    assert np.abs(torch.softmax(logits, 1).numpy() - expected).max() < 1e-4


def test_a_loaded_network_predicts_volumes(hub: HubServer, root: Path, tmp_path: Path) -> None:
    run_and_push(hub, tiny(root, "adrenalmnist3d", model="timm/test_resnet"), tmp_path / "run")
    model: Any = NetworkForImageClassification.from_pretrained(ID)
    scores = model.predict(medmnist_hf.load_arrays("adrenalmnist3d", 28, "test", root).images)
    assert np.abs(scores - predictions(tmp_path / "run")).max() < 1e-5


@pytest.mark.slow
def test_the_examples_of_model_cards_run_unchanged(
    hub: HubServer, root: Path, real_data: Path, tmp_path: Path
) -> None:
    """Cards for images with and without official data and for volumes, run without token and cache."""
    entry = subset("breastmnist")
    build_config(entry, 28, Folder(real_data).fetch(entry, 28), tmp_path)
    images = {"timm": "breastmnist", "paper": "pneumoniamnist"}
    examples = []
    for name, folder, flag, model in (
        ("timm", tmp_path, images["timm"], "timm/test_resnet"),
        ("paper", root, images["paper"], "resnet18"),
        ("volumes", root, "adrenalmnist3d", "timm/test_resnet"),
    ):
        write_card(folder / flag)
        put_on_hub(hub, folder / flag)
        recipe = tiny(folder, flag, model=model, method="linear-probe", repository=f"org/{flag}")
        run_and_push(hub, recipe, tmp_path / name, f"org/{name}")
        card = hub.store.files("model", f"org/{name}")["README.md"].decode()
        (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
        examples.append(tmp_path / f"example-{name}.py")
        examples[-1].write_text(code)
    printed = re.split(r"^# .*\n", hub.load(EXAMPLES, *examples, env=hub.env(anonymous=True)), flags=re.MULTILINE)
    for (name, flag), text in zip(images.items(), printed[1:3], strict=True):
        by_label = {item["label"]: item["score"] for item in ast.literal_eval(text)}
        first = predictions(tmp_path / name)[0]
        assert [by_label[label] for label in subset(flag).labels] == pytest.approx(first.tolist(), abs=1e-4)
    numbers = [float(number) for number in re.findall(r"\d\.\d*", printed[3])]
    eight = predictions(tmp_path / "volumes")[:8]
    assert numbers == pytest.approx(eight.flatten().tolist(), abs=6e-4)
