"""Without extras, every command works or names the extra that it needs in one line; run by ``make test-core``."""

from importlib.metadata import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import medmnist_hf
from medmnist_hf.extras import DISTRIBUTION
from medmnist_hf.manifest import README_NAME, read_manifest
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.commands import command
from tests.fixtures.pages import verbs
from tests.fixtures.paths import ROOT

pytestmark = pytest.mark.core

WORKS = {
    "list": ["list"],
    "info": ["info", "pathmnist"],
    "cite": ["cite", "pathmnist"],
    "cache": ["cache"],
    "verify": ["verify", "dist/breastmnist"],
    "audit": ["audit", "dist/breastmnist"],
    "export": ["export", "breastmnist", "--root", "dist", "--format", "imagefolder", "--out", "folders"],
    "montage": ["montage", "breastmnist", "--root", "dist", "--length", "2", "--out", "montage.png"],
    "corrupt": ["corrupt", "breastmnist", "pixelate", "--root", "dist", "--out", "corrupted"],
    "evaluate": ["evaluate", "mine.csv", "--subset", "breastmnist", "--split", "test", "--root", "dist", "--ci"],
    "compare": ["compare", "mine.csv", "mine.csv", "--subset", "breastmnist", "--split", "test", "--root", "dist"],
    "leaderboard": ["leaderboard", "breastmnist"],
    "submit init": ["submit", "init", "entry", "--root", "dist"],
    "space": ["space", "breastmnist", "--root", "dist", "--out", "site"],
    "benchmark": ["benchmark", "--example"],
}
NEEDS = {
    "build": ("build", ["build", "breastmnist", "--source", "phantom"]),
    "audit": ("build", ["audit", "dist/breastmnist", "--save"]),
    "push": ("build", ["push", "dist/breastmnist", "--repo-id", "you", "--allow-synthetic"]),
    "corrupt": ("corruptions", ["corrupt", "breastmnist", "motion_blur", "--root", "dist", "--out", "corrupted"]),
    "evaluate": ("plot", [*WORKS["evaluate"], "--plot", "roc.png"]),
    "embed": ("train", ["embed", "breastmnist", "--root", "dist", "--model", "timm/test_vit"]),
    "finetune": ("train", ["finetune", "breastmnist", "--root", "dist"]),
    "scorecard": ("train", ["scorecard", "breastmnist", "--root", "dist", "--model", "timm/test_vit"]),
    "robustness": ("train", ["robustness", "--run", "runs/mine"]),
    "predict": ("train", ["predict", "--run", "runs/mine", "--images", "breastmnist", "--out", "scores.csv"]),
    "benchmark": ("train", ["benchmark", "matrix.yaml"]),
    "automl": ("train", ["automl", "breastmnist", "--root", "dist", "--engine", "flaml"]),
}
TESTED_ELSEWHERE = {"automl-env": "tests/automl", "push-metric": "tests/cli/make_data/test_push_metric.py"}
TESTED_ELSEWHERE |= {"push-space": "tests/cli/make_data/test_space.py"}
TESTED_ELSEWHERE |= dict.fromkeys(("submit check", "submit push"), "tests/cli/results/test_submit.py")
"""The first creates an environment, which takes minutes; the first two that push need a Hub, but no extra;
the others need official labels."""


@pytest.fixture(scope="module")
def no_extra() -> None:
    """Where an extra is installed, its command would run for minutes instead of naming it."""
    extras = metadata(DISTRIBUTION).get_all("Provides-Extra")
    assert extras and {"build", "evaluate", "plot", "train"} <= set(extras)
    present = [
        name for name in ("bibtexparser", "cv2", "evaluate", "jinja2", "matplotlib", "torch") if find_spec(name)
    ]
    assert not present, f"run this by `make test-core`: {present} belong to extras"


@pytest.fixture(scope="module")
def folder(no_extra: None, phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build in ``dist``, predictions for its test split and a matrix."""
    home = tmp_path_factory.mktemp("core")
    dist = build(phantoms, home / "dist", "breastmnist", 28)
    # Rendering a card of this build needs the extra `build`; this one has the same metadata.
    manifest = read_manifest(dist / "28")
    card = (ROOT / "cards/breastmnist.md").read_text(encoding="utf-8")
    (dist / README_NAME).write_text(f"{card}\n{manifest.content_id}\n", encoding="utf-8")
    labels = medmnist_hf.load("breastmnist", 28, split="test", root=home / "dist")["label"]
    rows = enumerate(np.random.default_rng(0).random(len(labels)))
    (home / "mine.csv").write_text("".join(f"{row},{1 - score},{score}\n" for row, score in rows))
    (home / "matrix.yaml").write_text("defaults: {root: dist}\nmatrix: {dataset: [breastmnist]}\n")
    return home


@pytest.fixture(autouse=True)
def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def test_every_verb_is_tried() -> None:
    assert WORKS.keys() | NEEDS.keys() | TESTED_ELSEWHERE.keys() == verbs().keys()


@pytest.mark.parametrize("verb", WORKS)
def test_it_works(verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first, *arguments = WORKS[verb]
    ended = command(first, capsys, monkeypatch)(*arguments)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout


@pytest.mark.parametrize("verb", NEEDS)
def test_it_names_the_extra_in_one_line(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    extra, (_, *arguments) = NEEDS[verb]
    ended = command(verb, capsys, monkeypatch)(*arguments)
    assert ended.returncode == 1
    error, *summary = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert error.endswith(f"'{DISTRIBUTION}[{extra}]'")
    assert summary == []


def test_rows_and_arrays_are_read() -> None:
    images, labels = medmnist_hf.load_arrays("breastmnist", 28, "train", root="dist")
    rows = medmnist_hf.load("breastmnist", 28, split="train", root="dist")
    assert images.shape == (len(rows), 28, 28) and labels.tolist() == rows["label"]
    many = medmnist_hf.load_many("breastmnist", 28, "train", "dist")
    assert many["label"][:] == rows["label"][:]
    assert medmnist_hf.score_many(np.eye(2)[labels], many).acc == 1


@pytest.mark.parametrize(
    ("statement", "extra"),
    [
        ("from medmnist_hf.cards.render import write_card", "build"),
        ("from medmnist_hf.training.data import ArrayLoader", "train"),
        ("from medmnist_hf.training.models import build_model", "train"),
        ("import medmnist_hf; medmnist_hf.metric('pathmnist')", "evaluate"),
    ],
)
def test_python_names_the_extra_too(statement: str, extra: str) -> None:
    with pytest.raises(ImportError) as error:
        exec(statement, {})
    assert str(error.value).endswith(f"'{DISTRIBUTION}[{extra}]'")
