"""Batch predictions of Vertex AI in their documented forms: read completely, or refused in one line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medmnist_hf.array_types import FloatArray
from medmnist_hf.catalog import Subset, Task, subset
from medmnist_hf.data.rows import open_rows
from medmnist_hf.errors import MedMNISTError, ScoreError, SourceError
from medmnist_hf.evaluation.evaluate import evaluate_file
from medmnist_hf.evaluation.labels import read_labels
from medmnist_hf.evaluation.prediction_files import read_predictions, write_predictions
from medmnist_hf.evaluation.vertex import is_batch_output, outputs, read_batch
from medmnist_hf.exporting.export import export
from medmnist_hf.vertex import display_names
from tests.conftest import Phantoms
from tests.fixtures.batches import BUCKET, items, lines, write_shards
from tests.fixtures.builds import build

CONFIGS = [("breastmnist", 28), ("bloodmnist", 64), ("retinamnist", 28), ("chestmnist", 28)]
"""One config per task, with labels that the export renames."""


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    for flag, size in CONFIGS:
        build(phantoms, out, flag, size, rows=60)
    return out


def scores_of(entry: Subset, rows: int, seed: int = 0) -> FloatArray:
    scores = np.random.default_rng(seed).random((rows, len(entry.labels)))
    return np.asarray(scores if entry.task is Task.MULTI_LABEL else scores / scores.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize(("flag", "size"), CONFIGS)
def test_from_the_export_to_the_score(root: Path, tmp_path: Path, flag: str, size: int, split: str) -> None:
    """Predictions in two shards, with rows and labels in another order, score like the official file."""
    entry = subset(flag)
    (folder,) = export(open_rows(flag, size, root=root), tmp_path, "vertex", gcs=BUCKET).paths
    requests = [json.loads(line) for line in (folder / f"batch_{split}.jsonl").read_text().splitlines()]
    truth = read_labels(flag, size, split, root).values
    scores = scores_of(entry, len(truth))
    batch = items(flag, size, split, scores)
    assert sorted(item["instance"]["content"] for item in batch) == [item["content"] for item in requests]
    assert all(item["instance"] in requests for item in batch)
    assert [item["instance"]["content"] for item in batch] != [item["content"] for item in requests]
    shards = write_shards(tmp_path / "predictions", batch)
    official = write_predictions(tmp_path, flag, size, split, scores, truth, run="official")
    expected, evaluation = (evaluate_file(path, root, ["f1"]) for path in (official, shards))
    assert evaluation.score == expected.score
    assert evaluation.metrics == expected.metrics
    result = evaluation.result
    assert (result.flag, result.size, result.split, result.run) == (flag, size, split, "predictions")
    assert (result.auc, result.acc) == (None, None)
    assert np.array_equal(result.scores, scores) and np.array_equal(result.index, np.arange(len(scores)))


def test_one_file_under_any_name(tmp_path: Path) -> None:
    scores = scores_of(subset("retinamnist"), 12)
    path = tmp_path / "my model.jsonl"
    path.write_text("\ufeff" + lines(items("retinamnist", 224, "validation", scores)).replace("\n", "\r\n\r\n"))
    batch = read_batch(path)
    assert (batch.entry.flag, batch.size, batch.split, batch.run) == ("retinamnist", 224, "validation", "my model")
    assert np.array_equal(batch.scores, scores)


def test_shards_of_custom_jobs(tmp_path: Path) -> None:
    scores = scores_of(subset("breastmnist"), 9)
    folder = write_shards(
        tmp_path / "job", items("breastmnist", 28, "test", scores), "prediction.results-{:05d}-of-00003"
    )
    (folder / "prediction.results-00000-of-00003").write_text("")
    (folder / "prediction.errors_stats-00000-of-00001").write_text("")
    assert np.array_equal(read_batch(folder).scores, scores)
    (folder / "prediction.results-00001-of-00003").unlink()
    refused(folder, SourceError, "prediction.results-00001-of-00003: no such file; download all 3 shards")


def test_a_shard_is_read_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = scores_of(subset("breastmnist"), 9)
    folder = write_shards(tmp_path / "job", items("breastmnist", 28, "test", scores))
    one, two = sorted(folder.iterdir())
    for path in (one, two, folder):
        assert is_batch_output(path)
        assert np.array_equal(read_batch(path).scores, scores) and read_batch(path).run == "job"
    monkeypatch.chdir(folder)
    assert read_batch(Path(one.name)).run == "job"
    csv, other = tmp_path / "a.csv", tmp_path / "b.jsonl"
    assert outputs([csv, one, other, two, csv]) == [csv, folder, other, csv]
    assert not is_batch_output(csv) and is_batch_output(other)


def refused(path: Path, kind: type[MedMNISTError], expected: str) -> None:
    with pytest.raises(kind) as caught:
        read_predictions(path)
    message = str(caught.value)
    assert expected in message and "\n" not in message and len(message) < 500 + len(str(path)), message


def test_missing_output(tmp_path: Path) -> None:
    refused(tmp_path / "none.jsonl", SourceError, "none.jsonl: no such file; pass the folder or the JSONL file")
    refused(tmp_path / "predictions_00001.jsonl", SourceError, "no such file")
    (tmp_path / "import.jsonl").write_text("")
    refused(tmp_path, SourceError, "is a folder without predictions_*.jsonl or prediction.results-*")
    (tmp_path / "errors_00001.jsonl").write_text("")
    refused(tmp_path, SourceError, "is a folder without predictions_*.jsonl or prediction.results-*")


def test_rows_that_are_duplicate_missing_or_of_another_split(tmp_path: Path) -> None:
    batch = items("breastmnist", 28, "test", scores_of(subset("breastmnist"), 9))
    path = tmp_path / "a.jsonl"

    def write(changed: list[dict[str, Any]]) -> Path:
        path.write_text(lines(changed))
        return path

    row = int(batch[3]["instance"]["content"][-5])
    refused(write([*batch, batch[3]]), ScoreError, f"{path}: line 10 repeats row {row} of {path}: line 4: pass")
    incomplete = [item for item in batch if not item["instance"]["content"].endswith("test4.png")]
    refused(write(incomplete), ScoreError, f"{path}: row 4 of test is missing: pass all files of the job")
    refused(write([]), ScoreError, f"{path}: contains no predictions")
    for flag, size, split in (
        ("breastmnist", 28, "validation"),
        ("breastmnist", 64, "test"),
        ("octmnist", 28, "test"),
    ):
        other = items(flag, size, split, scores_of(subset(flag), 1))
        expected = (
            f"{path}: line 10 is for {flag} at size {size}, {split}, but earlier lines are for "
            "breastmnist at size 28, test: pass the output of one split"
        )
        refused(write([*batch, *other]), ScoreError, expected)


def test_missing_last_rows_are_detected_by_the_labels(root: Path, tmp_path: Path) -> None:
    rows = len(read_labels("breastmnist", 28, "test", root).values)
    batch = items("breastmnist", 28, "test", scores_of(subset("breastmnist"), rows - 1))
    path = tmp_path / "a.jsonl"
    path.write_text(lines(batch))
    with pytest.raises(ScoreError, match=rf"a\.jsonl: {rows - 1} rows, but the test split .* has {rows}"):
        evaluate_file(path, root)


def test_failed_images_are_reported(tmp_path: Path) -> None:
    batch = items("breastmnist", 28, "test", scores_of(subset("breastmnist"), 9))
    uri = batch[0]["instance"]["content"]
    status = {"code": 3, "message": "Image\nis\tbroken. " + "x" * 500}
    expected = f"reports that {uri} failed (Image is broken. xxx"
    path = tmp_path / "a.jsonl"
    path.write_text(lines([*batch[1:], {"instance": batch[0]["instance"], "error": status}]))
    refused(path, ScoreError, f"{path}: line 9 {expected}")
    folder = write_shards(tmp_path / "job", batch[1:])
    for content in ({**batch[0]["instance"], "error": status}, {"instance": batch[0]["instance"], "error": status}):
        (folder / "errors_00001.jsonl").write_text(lines([content]))
        refused(folder, ScoreError, f"{folder / 'errors_00001.jsonl'}: line 1 {expected}")
    (folder / "errors_00001.jsonl").write_text("quota exceeded, 12\n")
    refused(folder, ScoreError, "line 1 reports that an image failed (quota exceeded, 12): predict the split again")


def changed(key: str, value: object) -> str:
    """One line of a BreastMNIST prediction with a changed value."""
    (item,) = items("breastmnist", 28, "test", np.array([[0.25, 0.75]]))
    item["prediction"][key] = value
    return lines([item])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            lines(items("breastmnist", 28, "test", np.array([[0.25, 0.75]])))[:-9],
            ": is the download incomplete",
        ),
        ("0,0.25,0.75\n", "line 1 is not valid JSON"),
        ("[" * 100_000, "line 1 is not valid JSON"),
        ("5\n", "line 1 is for null, which is not an image exported with --format vertex"),
        ("{}\n", "line 1 is for null, which is not an image exported with --format vertex"),
        ('{"instance": "gs://b/a.png"}\n', "line 1 is for null"),
        ('{"instance": {"content": 5}}\n', "line 1 is for 5, which is not an image"),
        ('{"instance": {"content": "gs://b/cat.png"}}\n', "must end in SUBSET/SPLIT/SPLIT0.png"),
        (changed("displayNames", ["malignant"]), "line 1 lacks displayNames and confidences of equal length"),
        (changed("confidences", None), "line 1 lacks displayNames and confidences of equal length"),
        (
            changed("displayNames", ["malignant", "normal, benign"]),
            "has the label normal, benign, which breastmnist",
        ),
        (changed("displayNames", ["malignant", "None_of_the_above"]), "has the label None_of_the_above, which"),
        (changed("displayNames", ["malignant", ["x"]]), 'has the label ["x"], which breastmnist does not have'),
        (changed("displayNames", ["malignant", "malignant"]), "has the label malignant twice"),
        (changed("confidences", [0.5, float("nan")]), "line 1 has the confidence NaN"),
        (
            changed("confidences", [0.5, 10**400]),
            "line 1 is not valid JSON (an integer of 1,329 bits is too large)",
        ),
        (changed("confidences", [0.5, -0.1]), "line 1 has the confidence -0.1"),
        (changed("confidences", [True, 0.5]), "line 1 has the confidence true"),
        (changed("confidences", ["1", 0.5]), "line 1 has the confidence 1"),
    ],
)
def test_lines_that_are_refused(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    refused(path, ScoreError, f"{path}: line 1 ")
    refused(path, ScoreError, expected)


@pytest.mark.parametrize("flag", ["breastmnist", "organamnist", "chestmnist"])
def test_omitted_labels_are_not_guessed(tmp_path: Path, flag: str) -> None:
    """By default the service returns only the ten best labels; OrganAMNIST has 11 and ChestMNIST 14."""
    entry = subset(flag)
    batch = items(flag, 28, "test", scores_of(entry, 4))
    kept = min(10, len(entry.labels) - 1)
    for item in batch:
        best = np.argsort(item["prediction"]["confidences"])[::-1][:kept]
        for key, values in item["prediction"].items():
            item["prediction"][key] = [values[at] for at in best]
    returned = set(batch[0]["prediction"]["displayNames"]) & set(display_names(entry))
    path = tmp_path / "a.jsonl"
    path.write_text(lines(batch))
    refused(path, ScoreError, f"{path}: line 1 has {len(returned)} of {len(entry.labels)} labels, without '")
    refused(path, ScoreError, "predict again with batch_parameters.json of the export")


def test_the_label_of_no_finding_may_be_omitted(tmp_path: Path) -> None:
    scores = scores_of(subset("chestmnist"), 4)
    batch = items("chestmnist", 28, "test", scores)
    for item in batch:
        at = item["prediction"]["displayNames"].index("None_of_the_above")
        for values in item["prediction"].values():
            del values[at]
    path = tmp_path / "a.jsonl"
    path.write_text(lines(batch))
    assert np.array_equal(read_batch(path).scores, scores)


def test_binary_files_and_folders_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xff\xfe0\x00")
    refused(path, ScoreError, f"{path}: is not UTF-8 text")
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "predictions_00001.jsonl").mkdir()
    refused(tmp_path / "job", SourceError, "predictions_00001.jsonl: cannot be read (it is not a regular file)")
