"""`load_many`: balance, streams, and names, sizes and builds that do not fit together."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medmnist_hf
from medmnist_hf.cards.render import write_card
from medmnist_hf.catalog import collection
from medmnist_hf.errors import CatalogError, MedMNISTError, SourceError
from medmnist_hf.places.resolver import ROOT_VARIABLE
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.hub.server import HubServer

THREE = ["pathmnist", "breastmnist", "octmnist"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in an empty folder, with an empty cache of builds, and without the pause after an interleaved stream."""
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)
    monkeypatch.delenv(ROOT_VARIABLE, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def test_every_name_and_split_works(all_2d: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = medmnist_hf.load_many(THREE, 28, "val", all_2d)
    assert str(rows.split) == "validation" and str(rows.info.version) == collection().version
    assert rows.info.citation.count("@article{medmnistv2,") == 1 and "@" in rows.info.citation
    monkeypatch.setenv(ROOT_VARIABLE, str(all_2d))
    names: list[Any] = ["PathMNIST-28,breastmnist,octmnist", (Path(all_2d, flag) for flag in THREE)]
    for same in names:
        assert medmnist_hf.load_many(same, split="validation")["label"][:] == rows["label"][:]
    few = medmnist_hf.load_many(THREE, split="train[:2]")
    assert few["subset"][:] == [0, 0, 1, 1, 2, 2]
    assert (
        medmnist_hf.load_many("octmnist", split="test")["label"][:]
        == medmnist_hf.load("octmnist", split="test")["label"][:]
    )


@pytest.mark.slow
def test_the_same_rows_have_the_same_fingerprint(all_2d: Path) -> None:
    def fingerprint(names: Any = THREE, **options: Any) -> str:
        return str(medmnist_hf.load_many(names, split="test", root=all_2d, **options)._fingerprint)

    assert fingerprint() == fingerprint()
    others = [fingerprint(THREE[::-1]), fingerprint(as_rgb=True), fingerprint(balance="interleave")]
    assert len({fingerprint(), *others}) == 4


@pytest.mark.parametrize("stop", ["first_exhausted", "all_exhausted"])
def test_interleaved_subsets_are_in_balance(all_2d: Path, stop: Any) -> None:
    def load(**options: Any) -> Any:
        return medmnist_hf.load_many(THREE, split="train", root=all_2d, balance="interleave", stop=stop, **options)

    rows, whole = load(), medmnist_hf.load_many(THREE, split="train", root=all_2d)
    counts, sizes = Counter(rows["subset"]), Counter(whole["subset"])
    reached = [counts[number] >= sizes[number] for number in range(3)]
    assert all(reached) if stop == "all_exhausted" else reached.count(True) == 1
    assert load()["label"][:] == rows["label"][:] != load(seed=1)["label"][:]
    for number in range(3):  # in order, and again from the start
        own = [label for owner, label in zip(whole["subset"], whole["label"], strict=True) if owner == number]
        drawn = [label for owner, label in zip(rows["subset"], rows["label"], strict=True) if owner == number]
        assert drawn == [own[place % len(own)] for place in range(len(drawn))]
    assert [row["label"] for row in load(streaming=True)] == rows["label"][:]


def test_only_train_is_interleaved_in_a_dictionary(all_2d: Path) -> None:
    rows, plain = (medmnist_hf.load_many(THREE, root=all_2d, balance=how) for how in ("interleave", "concatenate"))
    for split in ("validation", "test"):
        assert rows[split]["label"][:] == plain[split]["label"][:]
    assert rows["train"]["subset"][:] != plain["train"]["subset"][:]


@pytest.mark.parametrize("streaming", [False, True])
def test_volumes(phantoms: Phantoms, tmp_path: Path, *, streaming: bool) -> None:
    flags = ["nodulemnist3d", "fracturemnist3d"]
    for flag in flags:
        write_card(build(phantoms, tmp_path, flag, 28, rows=4))
    rows = medmnist_hf.load_many(flags, split="test", root=tmp_path, streaming=streaming, as_rgb=True)
    expected = np.concatenate([medmnist_hf.load_arrays(flag, split="test", root=tmp_path).images for flag in flags])
    assert np.array_equal([np.asarray(row["image"], np.uint8) for row in rows], expected)
    assert {row["modality"] for row in rows} == {"Chest CT"}


@pytest.mark.parametrize("balance", ["concatenate", "interleave"])
def test_streams_decode_after_any_step(all_2d: Path, balance: Any) -> None:
    rows = medmnist_hf.load_many(THREE, split="train", root=all_2d, streaming=True, balance=balance)
    for step in (rows, rows.skip(3), rows.take(3), rows.shuffle(seed=0), rows.map(lambda row: row)):
        assert {row["image"].size for row in step} == {(28, 28)}
    assert rows.features["label"].names[9] == "breastmnist/malignant"


def test_a_repository_must_name_its_subset() -> None:
    with pytest.raises(
        SourceError, match=r"^org/scans does not name its subset: load it by a name that ends in its fla"
    ):
        medmnist_hf.load_many(["org/scans", "org/breastmnist"], split="test")


@pytest.mark.parametrize(
    ("names", "options", "error", "says"),
    [
        ([], {}, CatalogError, "no subset is given"),
        ("breastmnist,bloodmist", {}, CatalogError, r"unknown subset 'bloodmist', .*did you mean 'bloodmnist'\?"),
        ("breastmnist,breastmnist-28", {}, CatalogError, "breastmnist is given twice: give each subset once"),
        ("breastmnist,organmnist3d", {}, CatalogError, "has 2D images and organmnist3d has volumes"),
        (
            "breastmnist-64,octmnist",
            {},
            CatalogError,
            "breastmnist at size 64 and octmnist at size 28 cannot be combined",
        ),
        ("all-3d", {"size": 224}, CatalogError, r"organmnist3d has no size 224: choose from 28, 64"),
        ("all-2d", {"balance": "mixed"}, CatalogError, "unknown balance 'mixed': choose from concatenate, interleave"),
        (
            "all-2d",
            {"stop": "never"},
            CatalogError,
            "unknown stop 'never': choose from first_exhausted, all_exhausted",
        ),
        ("all-2d", {"columns": ["label"]}, MedMNISTError, "load_many combines whole rows: leave out columns"),
        ("all-2d", {"streamin": True}, MedMNISTError, "did you mean streaming?"),
        ("all-2d", {"split": "tests"}, CatalogError, "unknown split 'tests' of pathmnist"),
    ],
)
def test_wrong_arguments(all_2d: Path, names: Any, options: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        medmnist_hf.load_many(names, root=all_2d, **options)


def test_all_missing_builds_are_named_with_one_command(all_2d: Path, tmp_path: Path, phantoms: Phantoms) -> None:
    shutil.copytree(all_2d / "octmnist", tmp_path / "dist" / "octmnist")
    with pytest.raises(SourceError) as caught:
        medmnist_hf.load_many(THREE, root=tmp_path / "dist")
    dist = tmp_path / "dist"
    command = f"run medmnist-hf build pathmnist breastmnist --size 28 --root {dist}"
    assert str(caught.value) == f"no build of pathmnist, breastmnist at size 28 in {dist}: {command}"
    with pytest.raises(
        SourceError, match=r"in none \(no such folder\): run medmnist-hf build .* --size 64 --root none$"
    ):
        medmnist_hf.load_many(THREE, 64, root="none")
    with pytest.raises(SourceError, match=r"^no build of breastmnist at size 28 in .* \(it has octmnist\): run"):
        medmnist_hf.load_many(["octmnist", "breastmnist"], root=dist)
    for flag in ("pathmnist", "breastmnist"):
        shutil.copy(phantoms(flag).path, dist / f"{flag}.npz")
    with pytest.raises(SourceError, match=rf"build pathmnist breastmnist --size 28 --source {dist}$"):
        medmnist_hf.load_many(THREE, root=dist)


def test_all_missing_builds_are_named_without_a_root_too(all_2d: Path, home: Path, hub: HubServer) -> None:
    shutil.copytree(all_2d / "octmnist", Path("dist", "octmnist"))
    with pytest.raises(SourceError) as caught:
        medmnist_hf.load_many(THREE)
    text = str(caught.value)
    assert f"no build of pathmnist, breastmnist at size 28 in dist or {home / 'medmnist-hf' / 'builds'}: " in text
    assert "run medmnist-hf build pathmnist breastmnist --size 28, or in Python load_many(..., build=True); " in text
    assert "cannot load medmnist/pathmnist either (HTTP 404 " in text and "\n" not in text
