"""Batch predictions of Vertex AI, of the documented forms and made by hand: read whole, or refused in one line."""

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
"""One of each task, with labels that are renamed."""


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    for flag, size in CONFIGS:
        build(phantoms, out, flag, size, rows=60)
    return out


def scores_of(entry: Subset, rows: int, seed: int = 0) -> FloatArray:
    found = np.random.default_rng(seed).random((rows, len(entry.labels)))
    return np.asarray(found if entry.task is Task.MULTI_LABEL else found / found.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize(("flag", "size"), CONFIGS)
def test_from_the_export_to_the_score(root: Path, tmp_path: Path, flag: str, size: int, split: str) -> None:
    """Exported, predicted in another order of rows and labels, over two shards: scored as the official file is."""
    entry = subset(flag)
    (folder,) = export(open_rows(flag, size, root=root), tmp_path, "vertex", gcs=BUCKET).paths
    asked = [json.loads(line) for line in (folder / f"batch_{split}.jsonl").read_text().splitlines()]
    truth = read_labels(flag, size, split, root).values
    scores = scores_of(entry, len(truth))
    found = items(flag, size, split, scores)
    assert sorted(item["instance"]["content"] for item in found) == [item["content"] for item in asked]
    assert all(item["instance"] in asked for item in found)
    assert [item["instance"]["content"] for item in found] != [item["content"] for item in asked]
    shards = write_shards(tmp_path / "predictions", found)
    official = write_predictions(tmp_path, flag, size, split, scores, truth, run="official")
    theirs, ours = (evaluate_file(path, root, ["f1"]) for path in (official, shards))
    assert ours.score == theirs.score
    assert ours.metrics == theirs.metrics
    result = ours.result
    assert (result.flag, result.size, result.split, result.run) == (flag, size, split, "predictions")
    assert (result.auc, result.acc) == (None, None)
    assert np.array_equal(result.scores, scores) and np.array_equal(result.index, np.arange(len(scores)))


def test_one_file_under_any_name(tmp_path: Path) -> None:
    scores = scores_of(subset("retinamnist"), 12)
    path = tmp_path / "my model.jsonl"
    path.write_text("\ufeff" + lines(items("retinamnist", 224, "validation", scores)).replace("\n", "\r\n\r\n"))
    found = read_batch(path)
    assert (found.entry.flag, found.size, found.split, found.run) == ("retinamnist", 224, "validation", "my model")
    assert np.array_equal(found.scores, scores)


def test_shards_of_custom_jobs(tmp_path: Path) -> None:
    scores = scores_of(subset("breastmnist"), 9)
    folder = write_shards(
        tmp_path / "job", items("breastmnist", 28, "test", scores), "prediction.results-{:05d}-of-00003"
    )
    (folder / "prediction.results-00000-of-00003").write_text("")
    (folder / "prediction.errors_stats-00000-of-00001").write_text("")
    assert np.array_equal(read_batch(folder).scores, scores)
    (folder / "prediction.results-00001-of-00003").unlink()
    refused(folder, SourceError, "prediction.results-00001-of-00003: no such file; fetch all 3 shards")


def test_a_shard_stands_for_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def refused(path: Path, kind: type[MedMNISTError], says: str) -> None:
    with pytest.raises(kind) as caught:
        read_predictions(path)
    message = str(caught.value)
    assert says in message and "\n" not in message and len(message) < 500 + len(str(path)), message


def test_what_is_not_there(tmp_path: Path) -> None:
    refused(tmp_path / "none.jsonl", SourceError, "none.jsonl: no such file; give the folder or the JSONL file")
    refused(tmp_path / "predictions_00001.jsonl", SourceError, "no such file")
    (tmp_path / "import.jsonl").write_text("")
    refused(tmp_path, SourceError, "is a folder without predictions_*.jsonl or prediction.results-*")
    (tmp_path / "errors_00001.jsonl").write_text("")
    refused(tmp_path, SourceError, "is a folder without predictions_*.jsonl or prediction.results-*")


def test_rows_twice_missing_or_of_another_split(tmp_path: Path) -> None:
    found = items("breastmnist", 28, "test", scores_of(subset("breastmnist"), 9))
    path = tmp_path / "a.jsonl"

    def written(changed: list[dict[str, Any]]) -> Path:
        path.write_text(lines(changed))
        return path

    row = int(found[3]["instance"]["content"][-5])
    refused(written([*found, found[3]]), ScoreError, f"{path}: line 10 is of row {row}, as {path}: line 4: give")
    gone = [item for item in found if not item["instance"]["content"].endswith("test4.png")]
    refused(written(gone), ScoreError, f"{path}: row 4 of test is missing: give all files of the job")
    refused(written([]), ScoreError, f"{path}: holds no prediction")
    for flag, size, split in (
        ("breastmnist", 28, "validation"),
        ("breastmnist", 64, "test"),
        ("octmnist", 28, "test"),
    ):
        other = items(flag, size, split, scores_of(subset(flag), 1))
        says = f"{path}: line 10 is of {flag} at {size}, {split}, those before of breastmnist at 28, test"
        refused(written([*found, *other]), ScoreError, says)


def test_an_end_that_is_missing_is_found_against_the_labels(root: Path, tmp_path: Path) -> None:
    rows = len(read_labels("breastmnist", 28, "test", root).values)
    found = items("breastmnist", 28, "test", scores_of(subset("breastmnist"), rows - 1))
    path = tmp_path / "a.jsonl"
    path.write_text(lines(found))
    with pytest.raises(ScoreError, match=rf"a\.jsonl: {rows - 1} rows, but the test split .* has {rows}"):
        evaluate_file(path, root)


def test_failed_images_are_told(tmp_path: Path) -> None:
    found = items("breastmnist", 28, "test", scores_of(subset("breastmnist"), 9))
    uri = found[0]["instance"]["content"]
    status = {"code": 3, "message": "Image\nis\tbroken. " + "x" * 500}
    says = f"says that {uri} failed (Image is broken. xxx"
    path = tmp_path / "a.jsonl"
    path.write_text(lines([*found[1:], {"instance": found[0]["instance"], "error": status}]))
    refused(path, ScoreError, f"{path}: line 9 {says}")
    folder = write_shards(tmp_path / "job", found[1:])
    for content in ({**found[0]["instance"], "error": status}, {"instance": found[0]["instance"], "error": status}):
        (folder / "errors_00001.jsonl").write_text(lines([content]))
        refused(folder, ScoreError, f"{folder / 'errors_00001.jsonl'}: line 1 {says}")
    (folder / "errors_00001.jsonl").write_text("quota exceeded, 12\n")
    refused(folder, ScoreError, "line 1 says that an image failed (quota exceeded, 12): predict the split again")


def changed(key: str, value: object) -> str:
    """The first line of a prediction of BreastMNIST with another value within its prediction."""
    (item,) = items("breastmnist", 28, "test", np.array([[0.25, 0.75]]))
    item["prediction"][key] = value
    return lines([item])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            lines(items("breastmnist", 28, "test", np.array([[0.25, 0.75]])))[:-9],
            ": was its download",
        ),
        ("0,0.25,0.75\n", "line 1 is no JSON"),
        ("[" * 100_000, "line 1 is no JSON"),
        ("5\n", "line 1 is of null, no image exported with --format vertex"),
        ("{}\n", "line 1 is of null, no image exported with --format vertex"),
        ('{"instance": "gs://b/a.png"}\n', "line 1 is of null"),
        ('{"instance": {"content": 5}}\n', "line 1 is of 5, no image"),
        ('{"instance": {"content": "gs://b/cat.png"}}\n', "must end in SUBSET/SPLIT/SPLIT0.png"),
        (changed("displayNames", ["malignant"]), "line 1 has no displayNames and confidences of one length"),
        (changed("confidences", None), "line 1 has no displayNames and confidences of one length"),
        (
            changed("displayNames", ["malignant", "normal, benign"]),
            "names the label normal, benign, which breastmnist",
        ),
        (changed("displayNames", ["malignant", "None_of_the_above"]), "names the label None_of_the_above, which"),
        (changed("displayNames", ["malignant", ["x"]]), 'names the label ["x"], which breastmnist has not'),
        (changed("displayNames", ["malignant", "malignant"]), "names the label malignant twice"),
        (changed("confidences", [0.5, float("nan")]), "line 1 has NaN for a confidence"),
        (changed("confidences", [0.5, 10**400]), "line 1 is no JSON (an integer of 1,329 bits is too large)"),
        (changed("confidences", [0.5, -0.1]), "line 1 has -0.1 for a confidence"),
        (changed("confidences", [True, 0.5]), "line 1 has true for a confidence"),
        (changed("confidences", ["1", 0.5]), "line 1 has 1 for a confidence"),
    ],
)
def test_lines_that_are_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    refused(path, ScoreError, f"{path}: line 1 ")
    refused(path, ScoreError, says)


@pytest.mark.parametrize("flag", ["breastmnist", "organamnist", "chestmnist"])
def test_labels_that_were_not_asked_for_are_not_guessed(tmp_path: Path, flag: str) -> None:
    """By default the service returns the ten best of the eleven labels of OrganAMNIST and of fourteen findings."""
    entry = subset(flag)
    found = items(flag, 28, "test", scores_of(entry, 4))
    kept = min(10, len(entry.labels) - 1)
    for item in found:
        best = np.argsort(item["prediction"]["confidences"])[::-1][:kept]
        for key, values in item["prediction"].items():
            item["prediction"][key] = [values[at] for at in best]
    told = set(found[0]["prediction"]["displayNames"]) & set(display_names(entry))
    path = tmp_path / "a.jsonl"
    path.write_text(lines(found))
    refused(path, ScoreError, f"{path}: line 1 has {len(told)} of {len(entry.labels)} labels and not '")
    refused(path, ScoreError, "predict again with batch_parameters.json of the export")


def test_the_label_of_no_finding_may_be_left_out(tmp_path: Path) -> None:
    scores = scores_of(subset("chestmnist"), 4)
    found = items("chestmnist", 28, "test", scores)
    for item in found:
        at = item["prediction"]["displayNames"].index("None_of_the_above")
        for values in item["prediction"].values():
            del values[at]
    path = tmp_path / "a.jsonl"
    path.write_text(lines(found))
    assert np.array_equal(read_batch(path).scores, scores)


def test_no_text_and_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xff\xfe0\x00")
    refused(path, ScoreError, f"{path}: is not text in UTF-8")
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "predictions_00001.jsonl").mkdir()
    refused(tmp_path / "job", SourceError, "predictions_00001.jsonl: cannot be read (it is not a regular file)")
