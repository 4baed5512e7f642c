"""Columns from CSV files: the right values for each row, and errors that name the line."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import mlcroissant
import numpy as np
import pytest

from medmnist_hf.cards.render import write_card
from medmnist_hf.catalog import NPZ_SPLITS, SPLITS, subset
from medmnist_hf.conversion.added_columns import AddedFiles, read_ids
from medmnist_hf.conversion.build import BuildOptions, build_config
from medmnist_hf.conversion.checks.verify import verify_config
from medmnist_hf.errors import BuildError, MedMNISTError, ReadError, SourceError
from medmnist_hf.features import features_of
from medmnist_hf.manifest import read_manifest
from tests.conftest import Phantoms
from tests.fixtures.commands import invoke
from tests.fixtures.source_ids import IDS, METADATA, labels_of, lesions, numbered_ids, organ_ids, write_csv

Lines = list[dict[str, Any]]


def test_source_ids_of_each_row_in_any_order_of_the_file(phantoms: Phantoms, tmp_path: Path) -> None:
    entry, file = subset("organamnist"), phantoms("organamnist")
    lines = organ_ids(entry, file)
    write_csv(tmp_path / "ids" / "organamnist.csv", IDS, lines[::-1])
    options = BuildOptions(added=AddedFiles(tmp_path / "ids"), max_shard_size=20_000)
    result = build_config(entry, 28, file, tmp_path / "dist", options=options)
    write_card(result.config_dir.parent)
    verify_config(result.config_dir, file)
    data = datasets.load_dataset(str(result.config_dir.parent), "28", cache_dir=str(tmp_path / "cache"))
    assert data["train"].features == features_of(entry, 28, ("source_id", "group"))
    for split in SPLITS:
        expected = [line["image_id"] for line in lines if line["split"] == NPZ_SPLITS[split]]
        assert list(data[split]["source_id"]) == expected
        assert list(data[split]["group"]) == ["-".join(name.split("-")[:2]) for name in expected]
    added = read_manifest(result.config_dir).added
    assert added is not None and (added.names, added.kind) == (("source_id", "group"), "CT volume")
    assert build_config(entry, 28, file, tmp_path / "dist", options=options).reused
    with pytest.raises(
        BuildError, match=r"built with columns of organamnist.csv \(SHA-256 .{8}\), not with .* no CSV"
    ):
        build_config(entry, 28, file, tmp_path / "dist", options=BuildOptions(max_shard_size=20_000))


def test_without_files_a_manifest_has_no_trace_of_them(phantoms: Phantoms, tmp_path: Path) -> None:
    result = build_config(subset("breastmnist"), 28, phantoms("breastmnist"), tmp_path)
    assert '"added"' not in (result.config_dir / "manifest.json").read_text()


def remove_last(lines: Lines) -> None:
    lines.pop()


def twice(lines: Lines) -> None:
    lines[1] = dict(lines[0])


def set_first(**values: Any) -> Callable[[Lines], None]:
    return lambda lines: lines[0].update(values)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (remove_last, r"lacks 1 of \d+ rows of test, the first is \d+"),
        (twice, "line 3: row 0 of train occurs twice"),
        (set_first(split="dev"), "line 2: unknown split 'dev'"),
        (set_first(index=99), r"line 2: train has no row '99', only 0 to 15"),
        (set_first(index="1.0"), "line 2: train has no row '1.0'"),
        (set_first(image_id=""), "line 2: row 0 of train has no image_id"),
        (set_first(image_id="train-1-99-axial-001"), r"line 2: organ 99 of image_id .* contradicts label \d+"),
        (set_first(image_id="train-1-1-sagittal-001"), "line 2: image_id .* does not have the form"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_file_that_does_not_fit(
    phantoms: Phantoms, tmp_path: Path, spoil: Callable[[Lines], None], fault: str
) -> None:
    entry, file = subset("organamnist"), phantoms("organamnist")
    lines = organ_ids(entry, file)
    spoil(lines)
    write_csv(tmp_path / "organamnist.csv", IDS, lines)
    options = BuildOptions(added=AddedFiles(tmp_path))
    with pytest.raises(ReadError, match=fault) as caught:
        build_config(entry, 28, file, tmp_path / "dist", options=options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "dist" / "organamnist" / "28").exists()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("split,index\ntrain,0\n", "has no column image_id, only 'split, index'"),
        ("", "has no column split"),
        ("split,index,image_id\ntrain,0\n", "line 2: 2 values, not 3"),
        ('split,index,image_id\ntrain,0,"a\n', "is not a CSV file"),
    ],
)
def test_what_is_not_such_a_file(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "breastmnist.csv"
    path.write_text(text)
    with pytest.raises(ReadError, match=fault):
        read_ids(path, subset("breastmnist"), {split: np.zeros(1) for split in SPLITS})


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no folder .*: set --source-ids"):
        AddedFiles(tmp_path / "none")
    with pytest.raises(SourceError, match=r"no file .*: set --metadata"):
        AddedFiles(metadata=tmp_path / "none.csv")
    (tmp_path / "ids.csv").touch()
    with pytest.raises(SourceError, match=r"ids\.csv is a file: set --source-ids to its folder, "):
        AddedFiles(tmp_path / "ids.csv")
    with pytest.raises(SourceError, match=r" is a folder: set --metadata to a CSV file in it$"):
        AddedFiles(metadata=tmp_path)
    with pytest.raises(SourceError, match=r"no file breastmnist\.csv or breastmnist_split_info\.csv in"):
        AddedFiles(tmp_path).columns_of(subset("breastmnist"))


def test_a_build_that_fails_on_its_files_leaves_no_folder(phantoms: Phantoms, tmp_path: Path) -> None:
    for name in ("ids", "dist"):
        (tmp_path / name).mkdir()
    entry, options = subset("breastmnist"), BuildOptions(added=AddedFiles(tmp_path / "ids"))
    for text in (None, "split,index,image_id\n"):
        if text is not None:
            (tmp_path / "ids" / "breastmnist.csv").write_text(text)
        with pytest.raises((SourceError, ReadError), match=r"breastmnist\.csv"):
            build_config(entry, 28, phantoms(entry.flag), tmp_path / "dist", options=options)
        assert not list((tmp_path / "dist").iterdir())


def test_ids_of_another_form_have_no_group(
    phantoms: Phantoms, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = numbered_ids(phantoms("chestmnist"), "{:08d}_000.png")
    lines[3]["image_id"] = "unknown"
    write_csv(tmp_path / "chestmnist_split_info.csv", IDS, lines)
    labels = {split: np.zeros(sum(line["split"] == NPZ_SPLITS[split] for line in lines)) for split in SPLITS}
    with caplog.at_level(logging.WARNING):
        added = AddedFiles(tmp_path).read(subset("chestmnist"), labels)
    assert added.columns["train"]["group"][2:5] == ["00000002", None, "00000004"]
    assert "1 row without a patient, since a source_id such as 'unknown'" in caplog.text


def test_a_subset_whose_ids_name_nothing_has_no_groups(phantoms: Phantoms, tmp_path: Path) -> None:
    write_csv(tmp_path / "bloodmnist.csv", IDS, numbered_ids(phantoms("bloodmnist")))
    assert AddedFiles(tmp_path).columns_of(subset("bloodmnist")).names == ("source_id",)


def test_metadata_of_corrected_splits_is_in_their_order(phantoms: Phantoms, tmp_path: Path) -> None:
    entry, file = subset("dermamnist-corrected"), phantoms("dermamnist-corrected")
    lines = lesions(file)
    path = write_csv(tmp_path / "meta.csv", METADATA, lines)
    result = build_config(entry, 28, file, tmp_path, options=BuildOptions(added=AddedFiles(metadata=path)))
    assert result.config_dir == tmp_path / "dermamnist" / "28-corrected"
    write_card(result.config_dir.parent)
    verify_config(result.config_dir, file)
    data = datasets.load_dataset(str(tmp_path / "dermamnist"), "28-corrected", cache_dir=str(tmp_path / "cache"))
    names = ["image", "label", "lesion_id", "image_id", "age", "sex", "localization", "group"]
    assert data["test"].column_names == names
    expected = [line for line in lines if line["split"] == "test"]
    for name in ("lesion_id", "image_id", "sex", "localization"):
        assert list(data["test"][name]) == [line[name] for line in expected]
    assert list(data["test"]["age"]) == [float(line["age"]) if line["age"] else None for line in expected]
    assert list(data["test"]["group"]) == list(data["test"]["lesion_id"])
    description = mlcroissant.Dataset(jsonld=tmp_path / "dermamnist" / "croissant.json")
    assert description.metadata.ctx.issues.errors == set()
    (records,) = [each for each in description.metadata.record_sets if each.id == "config-28-corrected"]
    assert {"config-28-corrected/lesion_id", "config-28-corrected/age"} <= {field.id for field in records.fields}
    card = (tmp_path / "dermamnist" / "README.md").read_text()
    assert "also has `lesion_id`, `image_id`, `age`, `sex`, `localization`, `group`, read from `meta.csv`" in card


def test_metadata_of_the_official_splits_is_found_by_the_ids(phantoms: Phantoms, tmp_path: Path) -> None:
    entry, file = subset("dermamnist"), phantoms("dermamnist")
    lines = lesions(file)
    path = write_csv(tmp_path / "meta.csv", METADATA, lines[::-1])
    with pytest.raises(SourceError, match="pass --source-ids"):
        AddedFiles(metadata=path).columns_of(entry)
    write_csv(tmp_path / "ids" / "dermamnist_split_info.csv", IDS, numbered_ids(file))
    files = AddedFiles(tmp_path / "ids", path)
    labels: Any = labels_of(file)
    added = files.read(entry, labels)
    assert added.columns["test"]["lesion_id"] == [line["lesion_id"] for line in lines if line["split"] == "test"]
    # The same files serve the corrected splits, whose rows are those of the metadata.
    assert "source_id" not in files.columns_of(subset("dermamnist-corrected")).names


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (remove_last, r"has \d+ rows of test where the data has \d+"),
        (set_first(dx="mel2"), "line 2: dx 'mel2' of ISIC_0000000 contradicts its label"),
        (set_first(age="old"), "line 2: age 'old' is not a number"),
        (set_first(lesion_id=""), "line 2: no image_id or lesion_id"),
        (set_first(split="dev"), "line 2: unknown split 'dev'"),
        (twice, "line 3: image_id 'ISIC_0000000' occurs twice"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_metadata_that_does_not_fit(
    phantoms: Phantoms, tmp_path: Path, spoil: Callable[[Lines], None], fault: str
) -> None:
    file = phantoms("dermamnist-corrected")
    lines = lesions(file)
    spoil(lines)
    path = write_csv(tmp_path / "meta.csv", METADATA, lines)
    labels: Any = labels_of(file)
    with pytest.raises(MedMNISTError, match=fault):
        AddedFiles(metadata=path).read(subset("dermamnist-corrected"), labels)


def test_metadata_is_for_some_subsets_only(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "meta.csv", METADATA, [])
    for flag in ("breastmnist", "dermamnist-extended"):
        with pytest.raises(SourceError, match=f"no metadata file is known for {flag}"):
            AddedFiles(metadata=path).columns_of(subset(flag))


def test_the_command_line_takes_the_files(
    phantoms: Phantoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Phantoms of the same seed are equal, so a CSV file made for one is right for the other."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_csv(tmp_path / "ids" / "organamnist.csv", IDS, organ_ids(subset("organamnist"), phantoms("organamnist")))
    source = ("--source", "phantom", "--phantom-rows", "16")
    invoke("build", "organamnist", *source, "--source-ids", "ids")
    assert read_manifest(tmp_path / "dist/organamnist/28").added_names == ("source_id", "group")
    invoke("build", "organamnist", *source, "--root", "plain")
    capsys.readouterr()
    invoke("audit", "dist/organamnist")
    own = capsys.readouterr().out
    assert "CT volumes" in own and "no CT volume has images in two splits, of" in own
    invoke("audit", "plain/organamnist", "--source-ids", "ids")
    assert capsys.readouterr().out == own
