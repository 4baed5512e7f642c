"""`medmnist_hf.joint.combine`: the columns of combined subsets, from mapped images and checked labels."""

from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import PIL.Image
import pyarrow as pa
import pytest

import medmnist_hf
from medmnist_hf.catalog import Task, subset
from medmnist_hf.data.stored_image import StoredImage
from medmnist_hf.errors import SourceError
from medmnist_hf.joint.combine import combine, joint_columns, joint_features, joint_groups
from medmnist_hf.joint.labels import JointLabels


def test_all_rows_are_those_of_the_subsets_in_order(all_2d: Path) -> None:
    many = medmnist_hf.load_many("all-2d", root=all_2d)
    joint = JointLabels.of(many)
    assert list(many) == ["train", "validation", "test"]
    alone = [medmnist_hf.load(entry.flag, root=all_2d) for entry in joint.subsets]
    for split, rows in many.items():
        start = 0
        for number, entry in enumerate(joint.subsets):
            own = alone[number][split]
            part = rows.select(range(start, start + len(own)))
            start += len(own)
            first = joint.starts[number]
            labels = own["label"][:]
            expected = labels if entry.task is Task.MULTI_LABEL else [[label] for label in labels]
            assert part["label"][:] == [[first + label for label in labels] for labels in expected]
            assert set(part["subset"][:]) == {number}
            assert set(part["task"][:]) == {entry.task.value} and set(part["modality"][:]) == {entry.modality}
            assert np.array_equal(np.asarray(part[-1]["image"]), np.asarray(own[-1]["image"]))
            assert part[0]["image"].mode == ("L" if entry.channels == 1 else "RGB")
        assert start == len(rows)


def test_images_are_neither_decoded_nor_copied(all_2d: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["pathmnist", "breastmnist"]
    parts = [medmnist_hf.load(flag, split="train", root=all_2d) for flag in flags]
    monkeypatch.setattr("medmnist_hf.data.stored_image.decode_image", pytest.fail)
    many = combine(parts, JointLabels.of(flags), 28)
    addresses = [chunk.field("bytes").buffers()[2].address for chunk in many.data.column("image").chunks]
    assert addresses == [
        chunk.field("bytes").buffers()[2].address for part in parts for chunk in part.data.column("image").chunks
    ]
    assert [Path(file["filename"]).name for file in many.cache_files] == [f"{flag}-train.arrow" for flag in flags]


def test_the_type_of_label_and_image_depends_on_the_subsets_alone() -> None:
    def columns(*flags: str, as_rgb: bool = False) -> datasets.Features:
        return joint_features(JointLabels.of(flags), 28, as_rgb=as_rgb)

    both = columns("breastmnist", "pathmnist")
    assert both["label"] == datasets.ClassLabel(names=list(JointLabels.of("breastmnist,pathmnist").names))
    assert isinstance(columns("breastmnist", "chestmnist")["label"], datasets.List)
    assert both["subset"] == datasets.ClassLabel(names=["breastmnist", "pathmnist"])
    assert both["image"].mode is None and columns("breastmnist", "octmnist")["image"].mode == "L"
    assert columns("bloodmnist", "pathmnist")["image"].mode == "RGB"
    assert columns("breastmnist", "octmnist", as_rgb=True)["image"].mode == "RGB"
    assert columns("organmnist3d", "nodulemnist3d")["image"] == datasets.Array3D((28, 28, 28), "uint8")


@pytest.mark.parametrize("streaming", [False, True])
def test_gray_images_as_rgb(all_2d: Path, *, streaming: bool) -> None:
    rows = medmnist_hf.load_many(
        ["breastmnist", "bloodmnist"], split="test", root=all_2d, as_rgb=True, streaming=streaming
    )
    images = [np.asarray(row["image"]) for row in rows]
    gray = medmnist_hf.load_arrays("breastmnist", split="test", root=all_2d).images
    colored = medmnist_hf.load_arrays("bloodmnist", split="test", root=all_2d).images
    expected = [*np.repeat(gray[..., None], 3, axis=3), *colored]
    assert np.array_equal(images, expected)
    if not streaming:
        shuffled = rows.shuffle(seed=0)
        assert np.array_equal(medmnist_hf.to_arrays(shuffled).images, [np.asarray(row["image"]) for row in shuffled])


def test_arrays_need_one_shape(all_2d: Path) -> None:
    rows = medmnist_hf.load_many(["breastmnist", "bloodmnist"], split="test", root=all_2d)
    with pytest.raises(SourceError, match=r"^the data set mixes gray and RGB images: load it with as_rgb=True$"):
        medmnist_hf.to_arrays(rows)
    gray = medmnist_hf.load_many(["breastmnist", "octmnist"], split="test", root=all_2d)
    assert medmnist_hf.to_arrays(gray).images.shape == (len(gray), 28, 28)


def test_only_images_of_the_subsets_are_decoded() -> None:
    feature = StoredImage(28, subset("breastmnist"), subset("bloodmnist"))
    wrong = StoredImage(28, subset("breastmnist"), as_rgb=True)
    file = datasets.Image().encode_example(PIL.Image.new("RGB", (28, 28)))
    assert feature.decode_example(file).mode == "RGB"
    for bad, reader in (
        (datasets.Image().encode_example(PIL.Image.new("L", (14, 14))), feature),
        ({"bytes": b"GIF89a" * 20, "path": None}, feature),
        (file, wrong),
    ):
        with pytest.raises(SourceError, match=r"^a row of (2 subsets|breastmnist) at size 28 holds an "):
            reader.decode_example(bad)


@pytest.mark.parametrize("streaming", [False, True])
def test_labels_outside_the_subset_are_refused(all_2d: Path, *, streaming: bool) -> None:
    rows = medmnist_hf.load("breastmnist", split="test", root=all_2d)
    table = rows.data.table.set_column(1, "label", pa.array([0] * (len(rows) - 1) + [2]))
    wrong = datasets.Dataset(datasets.table.InMemoryTable(table), info=rows.info)
    part = wrong.to_iterable_dataset() if streaming else wrong
    with pytest.raises(SourceError, match=r"^row \d+ of breastmnist holds a label outside 0 to 1: verify the build$"):
        list(combine([part], JointLabels.of("breastmnist"), 28))


def test_groups_balance_subsets_and_the_rarest_finding(all_2d: Path) -> None:
    train = medmnist_hf.load_many(["chestmnist", "breastmnist"], split="train", root=all_2d).shuffle(seed=1)
    assert joint_groups(train).tolist() == train["subset"][:]
    counts = Counter(label for labels in train["label"] for label in labels)
    for row, (number, label) in zip(train, joint_groups(train, classes=True).tolist(), strict=True):
        assert number == row["subset"]
        assert label == -1 if not row["label"] else counts[label] == min(counts[each] for each in row["label"])
    owners, hot = joint_columns(train, JointLabels.of(train))
    assert hot.shape == (len(train), 16) and [np.flatnonzero(row).tolist() for row in hot] == train["label"][:]
    assert owners.tolist() == train["subset"][:]


def test_columns_of_a_stream_or_of_all_splits_are_refused(all_2d: Path) -> None:
    splits = medmnist_hf.load_many("breastmnist", root=all_2d)
    stream = splits["test"].to_iterable_dataset()
    for rows, hint in ((stream, "without streaming=True"), (splits, "choose a split")):
        with pytest.raises(SourceError, match=hint):
            joint_groups(rows)
