"""The catalog agrees with the official package; its prose and errors keep their rules."""

import ast
import hashlib
import importlib.util
import os
import re
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.npyio import NpzFile

from medmnist_hf.catalog import (
    DEFAULT_SIZE,
    NPZ_SPLITS,
    SPLITS,
    Subset,
    Task,
    collection,
    sized_subset,
    subset,
    subsets,
)
from medmnist_hf.errors import CatalogError, shorten

FLAGS = [entry.flag for entry in subsets()]
HUB_LICENSES = {"CC BY 4.0": "cc-by-4.0", "CC BY-NC 4.0": "cc-by-nc-4.0"}
# The Hub's list of values for `annotations_creators`.
ANNOTATORS = {"found", "crowdsourced", "expert-generated", "machine-generated", "no-annotation", "other"}
CHANGED_IN_2_2_4 = {"organamnist", "organcmnist", "organsmnist", "organmnist3d", "vesselmnist3d"}
# Real file -> rows of its largest class in the test split, and their share in percent.
REAL_FLOORS = {"breastmnist": (114, "73.08"), "retinamnist": (174, "43.50"), "adrenalmnist3d": (229, "76.85")}


def official() -> dict[str, dict[str, Any]]:
    """Read ``INFO`` from the official package's source, since importing it creates a folder in the user's home."""
    spec = importlib.util.find_spec("medmnist")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the official package is not installed", name="medmnist")
    source = (Path(next(iter(spec.submodule_search_locations))) / "info.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "INFO":
            info: dict[str, dict[str, Any]] = ast.literal_eval(node.value)
            return info
    raise AssertionError("medmnist.info defines no INFO")


INFO = official()


@pytest.fixture(params=subsets(), ids=FLAGS)
def entry(request: pytest.FixtureRequest) -> Subset:
    subset = request.param
    assert isinstance(subset, Subset)
    return subset


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def shared_phrases(text: str, other: str, length: int) -> set[tuple[str, ...]]:
    """Return the sequences of `length` words that occur in both texts."""
    left, right = (
        {tuple(sequence[start : start + length]) for start in range(len(sequence) - length + 1)}
        for sequence in (words(text), words(other))
    )
    return left & right


# --- Equal to the official package ---


def test_order_is_the_official_one() -> None:
    assert list(INFO) == FLAGS
    assert [entry.ndim for entry in subsets()] == [2] * 12 + [3] * 6


def test_facts_equal_the_official_package(entry: Subset) -> None:
    info = INFO[entry.flag]
    assert entry.python_class == info["python_class"]
    assert entry.task.official_name == info["task"]
    assert {str(index): name for index, name in enumerate(entry.labels)} == info["label"]
    assert list(info["label"]) == [str(index) for index in range(len(entry.labels))]
    assert entry.channels == info["n_channels"]
    assert {NPZ_SPLITS[split]: entry.counts[split] for split in SPLITS} == info["n_samples"]
    assert entry.license == HUB_LICENSES[info["license"]]


def test_files_equal_the_official_package(entry: Subset) -> None:
    info = INFO[entry.flag]
    files = {
        f"{key}{'' if file.size == DEFAULT_SIZE else f'_{file.size}'}": value
        for file in entry.files
        for key, value in (("url", file.url), ("MD5", file.md5))
    }
    assert files == {key: value for key, value in info.items() if key.startswith(("url", "MD5"))}


def test_file_names_and_shapes(entry: Subset) -> None:
    assert entry.sizes == ((28, 64, 128, 224) if entry.ndim == 2 else (28, 64))
    for file in entry.files:
        assert re.search(rf"/files/{re.escape(file.name)}\?download=1$", file.url)
        assert file.name == f"{entry.flag}{'' if file.size == 28 else f'_{file.size}'}.npz"
        assert file.image_shape == (file.size,) * entry.ndim + ((3,) if entry.channels == 3 else ())
        assert entry.file(file.size) is file


def test_there_are_60_different_files() -> None:
    files = [file for entry in subsets() for file in entry.files]
    assert len(files) == len({file.md5 for file in files}) == len({file.url for file in files}) == 60
    assert all(re.fullmatch("[0-9a-f]{32}", file.md5) for file in files)
    assert all(f"/records/{collection().record}/" in file.url for file in files)


def test_totals() -> None:
    totals = {ndim: sum(entry.counts.total for entry in subsets() if entry.ndim == ndim) for ndim in (2, 3)}
    assert totals == {2: 707_962, 3: 9_996}
    assert any("707,962" in caveat and "9,996" in caveat for caveat in collection().caveats)


# --- Beyond the official package ---


def test_only_dermamnist_forbids_commercial_use(entry: Subset) -> None:
    assert (entry.license == "cc-by-nc-4.0") is (entry.flag == "dermamnist")
    assert collection().license_names[entry.license].startswith("Creative Commons Attribution")
    assert collection().license_urls[entry.license].startswith("https://creativecommons.org/licenses/by")


def test_every_license_is_used() -> None:
    used = {entry.license for entry in subsets()}
    assert used == set(collection().license_names) == set(collection().license_urls)


def test_metadata_is_filled_in(entry: Subset) -> None:
    assert entry.modality
    assert entry.annotations_creators in ANNOTATORS
    assert entry.citations and len(set(entry.citations)) == len(entry.citations)
    assert len(set(entry.labels)) == len(entry.labels)


def test_prose_is_plain_text(entry: Subset) -> None:
    assert len(entry.caveats) >= 3 and len(set(entry.caveats)) == len(entry.caveats)
    for text in (entry.description, *entry.caveats, *collection().caveats):
        assert re.fullmatch(r"[A-Z]\S.*[.]", text), text
        assert "  " not in text and "\n" not in text
    assert 2 <= len(re.findall(r"[.](?= [A-Z]|$)", entry.description)) <= 5


def test_prose_is_our_own(entry: Subset) -> None:
    official_text = "\n".join(info["description"] for info in INFO.values())
    for text in (entry.description, *entry.caveats):
        assert not shared_phrases(text, official_text, 8)


def test_shared_phrases_finds_a_copy() -> None:
    copied = INFO["pathmnist"]["description"].split(",")[1]
    assert shared_phrases(f"We say that{copied}, too.", INFO["pathmnist"]["description"], 8)


def test_caveats_say_how_sizes_were_made(entry: Subset) -> None:
    assert any(re.search(r"\b[Ss]izes?\b", caveat) for caveat in entry.caveats)


@pytest.mark.parametrize(
    ("flag", "keywords"),
    [
        ("nodulemnist3d", ("64", "upsampled", "28")),
        ("tissuemnist", ("64", "upsampled", "32 x 32")),
        ("pneumoniamnist", ("127", "128", "upsampled")),
        ("synapsemnist3d", ("64", "center crop")),
        ("dermamnist", ("lesion", "leakage", "2401.14497")),
        ("dermamnist", ("NC", "commercial")),
        ("chestmnist", ("94.74", "AUC")),
        ("chestmnist", ("class id", "empty list")),
        ("breastmnist", ("Label 1", "normal, benign", "malignant")),
        ("organmnist3d", ("order", "0 is liver", "10 pancreas")),
        ("adrenalmnist3d", ("hyperplasia", "adrenal mass")),
        ("fracturemnist3d", ("segmental",)),
        ("retinamnist", ("grades", "unrelated classes")),
    ],
)
def test_known_traps_are_named(flag: str, keywords: tuple[str, ...]) -> None:
    assert any(all(word in caveat for word in keywords) for caveat in subset(flag).caveats)


def test_release_2_2_4_is_named_where_it_removed_samples(entry: Subset) -> None:
    is_named = any("2.2.4" in caveat and "blank" in caveat for caveat in entry.caveats)
    assert is_named is (entry.flag in CHANGED_IN_2_2_4)


def test_not_for_clinical_use() -> None:
    assert "clinical" in collection().caveats[0]


def test_label_order_of_3d_organs_differs_but_not_the_organs() -> None:
    flat = {subset(f"organ{plane}mnist").labels for plane in "acs"}
    volume = subset("organmnist3d").labels
    assert len(flat) == 1
    assert set(volume) == set(next(iter(flat))) and volume not in flat
    assert list(next(iter(flat))) == sorted(volume)


# --- The catalog is read-only, its errors are one line ---


def test_everything_is_frozen() -> None:
    entry = subset("pathmnist")
    for thing, field in ((entry, "flag"), (entry.files[0], "md5"), (entry.counts, "train"), (collection(), "record")):
        with pytest.raises(FrozenInstanceError):
            setattr(thing, field, "changed")


def test_flags_in_any_case() -> None:
    assert subset("PathMNIST") is subset("pathmnist")


def test_a_misspelled_flag_gets_a_suggestion() -> None:
    with pytest.raises(CatalogError, match=r"unknown subset 'patmnist': did you mean 'pathmnist'\?"):
        subset("patmnist")


@given(st.text().filter(lambda text: text.lower() not in FLAGS))
def test_unknown_subset_is_one_line(flag: str) -> None:
    with pytest.raises(CatalogError) as caught:
        subset(flag)
    assert len(str(caught.value).splitlines()) == 1
    assert shorten(flag) in str(caught.value)


@given(st.integers().filter(lambda size: size not in (28, 64)))
def test_unknown_size_is_one_line(size: int) -> None:
    with pytest.raises(CatalogError) as caught:
        subset("organmnist3d").file(size)
    assert str(caught.value) == f"organmnist3d has no size {size}: choose from 28, 64"


@given(st.text().filter(lambda text: text not in SPLITS))
def test_unknown_split_is_one_line(split: str) -> None:
    with pytest.raises(CatalogError) as caught:
        subset("pathmnist").counts[split]
    assert len(str(caught.value).splitlines()) == 1
    assert "choose from train, validation, test" in str(caught.value)


def test_splits_by_name_are_the_fields(entry: Subset) -> None:
    counts = entry.counts
    assert [counts[split] for split in SPLITS] == [counts.train, counts.validation, counts.test]
    assert counts.total == sum(counts[split] for split in SPLITS)


def test_only_chest_is_multi_label(entry: Subset) -> None:
    assert (entry.task is Task.MULTI_LABEL) is (entry.flag == "chestmnist")
    assert (entry.task is Task.ORDINAL) is (entry.flag == "retinamnist")
    assert (len(entry.labels) == 2) is (entry.task is Task.BINARY)


# --- Against the real files ---


def real(flag: str) -> NpzFile:
    root = os.environ.get("MEDMNIST_ROOT")
    if not root:
        pytest.skip("MEDMNIST_ROOT is not set: no official files")
    arrays = np.load(Path(root) / subset(flag).file(28).name, allow_pickle=False)
    assert isinstance(arrays, NpzFile)
    return arrays


@pytest.mark.parametrize("flag", REAL_FLOORS)
def test_real_files_agree(flag: str) -> None:
    entry = subset(flag)
    with real(flag) as arrays:
        for split in SPLITS:
            images, labels = (arrays[f"{NPZ_SPLITS[split]}_{kind}"] for kind in ("images", "labels"))
            assert images.shape == (entry.counts[split], *entry.file(28).image_shape)
            assert labels.shape == (entry.counts[split], 1)
            assert np.array_equal(np.unique(labels), np.arange(len(entry.labels)))
        majority = int(np.bincount(arrays["test_labels"].ravel()).max())
    count, percent = REAL_FLOORS[flag]
    assert majority == count and f"{100 * majority / entry.counts.test:.2f}" == percent
    assert any(f"{percent} %" in caveat and f"{count} of {entry.counts.test}" in caveat for caveat in entry.caveats)


def test_adrenal_voxels_are_a_mask() -> None:
    with real("adrenalmnist3d") as arrays:
        assert np.unique(arrays["test_images"]).size == 2


def test_breastmnist_has_only_the_duplicates_named_in_its_caveat() -> None:
    with real("breastmnist") as arrays:
        rows_by_pixels: dict[bytes, list[tuple[str, int, int]]] = {}
        for split, prefix in NPZ_SPLITS.items():
            rows = zip(arrays[f"{prefix}_images"], arrays[f"{prefix}_labels"][:, 0], strict=True)
            for index, (image, label) in enumerate(rows):
                key = hashlib.sha256(image.tobytes()).digest()
                rows_by_pixels.setdefault(key, []).append((split, index, int(label)))
    duplicates = [rows for rows in rows_by_pixels.values() if len(rows) > 1]
    assert duplicates == [[("train", 115, 0), ("test", 76, 1)]]
    assert any("row 115 of train" in caveat and "row 76 of test" in caveat for caveat in subset("breastmnist").caveats)


def test_a_size_may_be_a_config_name() -> None:
    entry = subset("breastmnist")
    assert entry.file("28") == entry.file(28)
    for size in ("028", "28 ", "", "x", 28.5, None):
        with pytest.raises(CatalogError, match="breastmnist has no size"):
            entry.file(size)  # type: ignore[arg-type]


def test_the_repr_of_a_subset_is_one_line() -> None:
    assert repr(subset("chestmnist")) == (
        "<Subset chestmnist: 112,120 images, multi-label, 14 findings, sizes 28, 64, 128, 224>"
    )
    assert (
        repr(subset("organmnist3d")) == "<Subset organmnist3d: 1,742 volumes, multi-class, 11 classes, sizes 28, 64>"
    )
    assert all("\n" not in repr(entry) and len(repr(entry)) < 100 for entry in subsets())


def test_a_flag_may_end_in_a_size() -> None:
    assert [
        (entry.flag, size) for entry, size in map(sized_subset, ("PathMNIST-64", "organmnist3d_28", "octmnist"))
    ] == [
        ("pathmnist", 64),
        ("organmnist3d", 28),
        ("octmnist", None),
    ]
    with pytest.raises(CatalogError, match="no size 128"):
        sized_subset("organmnist3d-128")
    with pytest.raises(CatalogError, match="did you mean 'pathmnist'"):
        sized_subset("pathmnits")
