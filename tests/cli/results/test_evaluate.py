"""The commands on prediction files, as a user runs them: tables, JSON, and one line per error."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from medmnist_hf.catalog import subset
from medmnist_hf.conversion.sources.phantom import phantom_counts, phantom_labels
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.evaluation.evaluate import compare_files, evaluate_file
from medmnist_hf.evaluation.prediction_files import read_predictions, write_predictions
from medmnist_hf.manifest import Provenance
from tests.conftest import Phantoms
from tests.fixtures.batches import items, write_shards
from tests.fixtures.benchmarks import leave_run
from tests.fixtures.builds import build
from tests.fixtures.scored import app, facts, flat, run, runner, write_labels, write_scores


def program(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command as the wheel installs it, in a new process."""
    code = "from medmnist_hf.cli.main import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labels(tmp_path_factory.mktemp("labels"))


def test_the_real_file(real_data: Path, tmp_path: Path) -> None:
    (path,) = (real_data.parent / "predictions").glob("*.csv")
    result = run("evaluate", path, "--data", real_data, "--ci", "--plot", tmp_path / "plot.png")
    assert result.stderr == f"wrote {tmp_path / 'plot.png'}\n"
    head, line = (" ".join(row.split()) for row in result.stdout.splitlines())
    assert head == "subset size split rows AUC [95 % DeLong] ACC [95 % Wilson] run"
    assert line == "breastmnist 28 test 156 0.913 [0.844, 0.953] 0.846 [0.781, 0.894] resnet18_224_1"
    with PIL.Image.open(tmp_path / "plot.png") as picture:
        assert picture.format == "PNG"
    board = facts("leaderboard", "breastmnist", path, "--data", real_data, "--resamples", "200")
    (own,) = (row for row in board["rows"] if row["own"])
    assert (own["name"], own["auc_rank"], own["acc_rank"]) == ("resnet18_224_1", 1, 1)


@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist", "chestmnist"])
def test_evaluate_prints_what_is_computed(data: Path, tmp_path: Path, flag: str) -> None:
    entry, path = subset(flag), write_scores(tmp_path, flag)
    arguments = ("evaluate", path, "--data", data, "--ci", "--per-class", "--measure", "ece", "--resamples", "30")
    expected = evaluate_file(path, data, ["ece"], ci=True, per_class=True, resamples=30)
    text = flat(run(*arguments))
    assert text.startswith(f"{Provenance.UNVERIFIED.warning} subset size"), "made here, under the official name"
    shown = {
        name: f"{span.estimate:.3f} [{span.low:.3f}, {span.high:.3f}]".replace("nan, nan", "unknown")
        for name, span in expected.intervals.items()
    }
    assert all(shown[name] in text for name in ("auc", "acc", "ece"))
    assert ("[unknown]" in text) == (flag == "chestmnist"), "where a finding has a single row"
    assert "run.0" in text
    for title, method in (("AUC", "DeLong"), ("ACC", "Wilson"), ("ece", "bootstrap"), ("auc", "DeLong")):
        assert f"{title} [95 % {method}]" in text
    for label in range(len(entry.labels)):
        assert f" {label} {entry.labels[label]} " in text
        assert shown[f"auc:{label}"] in text
    (output,) = facts(*arguments)
    assert (output["subset"], output["size"], output["split"], output["run"]) == (flag, 28, "test", "run.0")
    score = expected.score
    assert (output["auc"], output["acc"], output["rows"]) == (score.auc, score.acc, score.rows)
    assert output["measures"] == expected.metrics and (output["warnings"] == []) == (flag != "chestmnist")
    assert output["intervals"]["acc"]["high"] == expected.intervals["acc"].high
    assert output["intervals"]["acc"]["method"] == "Wilson" and output["intervals"]["auc"]["method"] == "DeLong"
    assert [each["label"] for each in output["classes"]] == list(entry.labels)
    positive = sum(each["positive"] for each in output["classes"])
    assert positive == expected.predictions.truth.size or flag == "chestmnist"


def test_a_file_of_any_name_is_scored_with_subset_and_split(data: Path, tmp_path: Path) -> None:
    official, other = write_scores(tmp_path, "breastmnist", size=64), tmp_path / "my_scores.csv"
    shutil.copy(official, other)
    (by_options,) = facts("evaluate", other, "--subset", "BreastMNIST-64", "--split", "test", "--root", data)
    (by_name,) = facts("evaluate", official, "--root", data)
    named = {"file", "run", "name_auc", "name_acc"}
    assert {key: by_options[key] for key in by_options.keys() - named} == {
        key: by_name[key] for key in by_name.keys() - named
    }
    assert by_options["run"] == "my_scores"
    equal = facts("compare", official, other, "--subset", "breastmnist", "--root", data)["measures"]["auc"]
    assert equal["difference"]["estimate"] == 0
    assert "my_scores" in run("leaderboard", "breastmnist-64", other, "--root", data).stdout
    for words, message in [
        ((other, "--root", data), "describe it with --subset and --split"),
        ((other, "--split", "test"), "add --subset"),
        (
            (official, "--subset", "pathmnist", "--root", data),
            "is a file of breastmnist test by its name, not of pathmnist",
        ),
        ((other, "--subset", "dist/breastmnist"), "is not the name of a subset"),
    ]:
        result = runner.invoke(app, ["evaluate", *map(str, words)])
        assert result.exit_code != 0 and message in result.output + str(result.exception)


def test_an_empty_file_does_not_hide_the_others(data: Path, tmp_path: Path) -> None:
    paths = [write_scores(tmp_path, "breastmnist", seed) for seed in range(3)]
    empty = tmp_path / "breastmnist_test@empty.csv"
    empty.write_text("")
    table = run("evaluate", *paths, "--data", data).stdout.splitlines()[1:]
    assert [line.split()[-1] for line in table[1:]] == ["run.0", "run.1", "run.2"]
    result = program("evaluate", paths[0], empty, paths[1], "--data", data)
    assert result.returncode == 1
    assert result.stderr == f"error: {empty}: contains no scores: is it the right file?\n"
    assert [line.split()[-1] for line in result.stdout.splitlines()[2:]] == ["run.0", "run.1"]


def test_wrong_numbers_in_a_file_name_are_warned_of(data: Path, tmp_path: Path) -> None:
    path = write_scores(tmp_path, "breastmnist").rename(tmp_path / "breastmnist_test_[AUC]0.999_[ACC]0.999@lie.csv")
    result = run("evaluate", path, "--data", data)
    assert len(result.stderr.splitlines()) == 2
    assert all(line.startswith("warning: breastmnist_test_[AUC]0.999") for line in result.stderr.splitlines())
    assert "0.999" not in result.stdout
    (output,) = facts("evaluate", path, "--data", data)
    assert (output["name_auc"], len(output["warnings"])) == (0.999, 2) and output["auc"] < 0.999


def test_an_undefined_value_is_null_in_json(tmp_path: Path) -> None:
    np.savez(tmp_path / "breastmnist.npz", test_labels=np.ones((2, 1), np.uint8))
    path = tmp_path / "breastmnist_test@x.csv"
    path.write_text("0,0.9\n1,0.8\n")
    (output,) = facts("evaluate", path, "--data", tmp_path, "--per-class")
    assert output["auc"] is None and output["acc"] == 1.0 and output["absent"] == [1]
    assert "nan" in run("evaluate", path, "--data", tmp_path).stdout


def test_logits_need_an_option(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "breastmnist_test@x.csv"
    rows = len(phantom_labels(subset("breastmnist"), phantom_counts(subset("breastmnist"), 60), "test"))
    path.write_text("".join(f"{row},{row - rows / 2}\n" for row in range(rows)))
    result = program("evaluate", path, "--data", data)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert "pass --from-logits if they are logits, --as-is" in result.stderr
    logits, as_is = (facts("evaluate", path, "--data", data, how)[0] for how in ("--from-logits", "--as-is"))
    assert logits["auc"] == as_is["auc"]
    assert logits["acc"] == evaluate_file(path, data, from_logits=True).score.acc


@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist"])
def test_compare(data: Path, tmp_path: Path, flag: str) -> None:
    paths = write_scores(tmp_path, flag, 1), write_scores(tmp_path, flag, 2)
    expected = compare_files(*paths, data, resamples=50)
    text = flat(run("compare", *paths, "--data", data, "--resamples", "50"))
    for name, each in expected.metrics.items():
        assert f"{name} {each.first:.4f} {each.second:.4f} {each.difference.estimate:+.4f}" in text
        assert f"{each.p:.3g} {each.difference.method}" in text
    output = facts("compare", *paths, "--data", data, "--resamples", "50", "--measure", "auc")
    assert list(output["measures"]) == ["auc"]
    assert output["measures"]["auc"]["p"] == expected.metrics["auc"].p
    assert output["measures"]["auc"]["difference"]["method"] == "DeLong"


def test_compare_uses_the_published_seed_of_a_run(data: Path, tmp_path: Path) -> None:
    runs, files = (tmp_path / "a", tmp_path / "b"), []
    for at, (folder, validation) in enumerate(zip(runs, ([0.5, 0.9], [0.7]), strict=True)):
        leave_run(folder, test=validation, validation=validation, dataset="breastmnist")
        for seed in range(len(validation)):
            files.append(write_scores(folder / f"seed-{seed}", "breastmnist", 10 * at + seed))
    _, best, only = files
    options = ("--data", data, "--resamples", "50")
    result = run("compare", *runs, *options)
    assert f"A {best} B {only}" in flat(result)
    assert result.stderr.splitlines()[:2] == [
        f"{runs[0]}: seed-1/{best.name} (seed 1 of 2, the best on validation)",
        f"{runs[1]}: seed-0/{only.name} (seed 0)",
    ]
    assert facts("compare", runs[0], only, *options) == facts("compare", best, only, *options)
    assert facts("evaluate", runs[0], *options)[0]["file"] == str(best)
    assert facts("leaderboard", "breastmnist", runs[0], *options)["files"][0]["file"] == str(best)


def test_a_folder_of_runs_is_an_error_that_names_its_runs(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    leave_run(runs / "mine", test=[0.9], validation=[0.8], dataset="breastmnist")
    result = runner.invoke(app, ["evaluate", str(runs)])
    message = f"{runs} is a folder of runs: give a run, e.g. {runs / 'mine'}, or all as {runs}/*/"
    assert str(result.exception) == message


def test_real_and_synthetic_results_have_separate_tables(real_data: Path, phantoms: Phantoms, tmp_path: Path) -> None:
    build(phantoms, tmp_path, "breastmnist", 64, rows=24)
    (tmp_path / "breastmnist.npz").symlink_to(real_data / "breastmnist.npz")
    labels = np.load(real_data / "breastmnist.npz")["test_labels"]
    small = phantom_labels(subset("breastmnist"), phantom_counts(subset("breastmnist"), 24), "test")
    real = write_predictions(tmp_path, "breastmnist", 28, "test", labels[:, 0] * 0.5 + 0.1, labels, run="real")
    fake = write_predictions(tmp_path, "breastmnist", 64, "test", small[:, 0] * 0.9, small, run="fake")
    for command in ("evaluate", "leaderboard"):
        files = (real, fake) if command == "evaluate" else ("breastmnist", real, fake, "--resamples", "20")
        text = run(command, *files, "--data", tmp_path).stdout
        first, second = text.split("\nSYNTHETIC: the data was generated", 1)
        second = second.split("\n\n")[0]
        assert "real" in first and "fake" not in first and "SYNTHETIC: fake" in second and "real" not in second
        assert "AutoKeras" not in second
    output = facts("leaderboard", "breastmnist", real, fake, "--data", tmp_path, "--resamples", "20")
    assert [row["name"] for row in output["rows"] if row["own"]] == ["real"]
    assert [row["name"] for row in output["not_comparable"]["synthetic"]] == ["fake"]
    assert [each["provenance"] for each in facts("evaluate", real, fake, "--data", tmp_path)] == [
        *("verified", "synthetic")
    ]


@pytest.mark.parametrize("flag", ["breastmnist", "chestmnist"])
def test_batch_predictions_of_vertex(data: Path, tmp_path: Path, flag: str) -> None:
    """A folder, or its shards as a shell expands them, is one result, equal to that of the official file."""
    official = write_scores(tmp_path, flag)
    folder = write_shards(tmp_path / "job", items(flag, 28, "test", read_predictions(official).scores))
    (folder / "errors_00001.jsonl").write_text("")
    for files in ((folder,), sorted(folder.iterdir())):
        theirs, ours = facts("evaluate", official, *files, "--data", data, "--per-class")
        different = {"file": str(folder), "run": "job", "name_auc": None, "name_acc": None}
        assert ours == theirs | different
    output = facts("compare", folder, official, "--data", data, "--resamples", "20")
    assert output["measures"]["auc"]["difference"]["estimate"] == 0
    board = facts("leaderboard", flag, *sorted(folder.iterdir()), "--data", data, "--resamples", "20")
    assert [row["name"] for row in board["not_comparable"]["unverified"]] == ["job"]
    run("evaluate", *sorted(folder.iterdir()), "--data", data, "--plot", tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").is_file()
    shard = folder / "predictions_00002.jsonl"
    shard.write_text(shard.read_text()[:-20])
    result = program("evaluate", official, folder, "--data", data)
    count = len(shard.read_text().splitlines())
    assert result.returncode == 1 and len(result.stdout.splitlines()) == 3
    assert result.stderr.startswith(f"error: {shard}: line {count} is not valid JSON (")
    assert result.stderr.endswith("): is the download incomplete?\n") and result.stderr.count("\n") == 1


def test_every_error_is_one_line(data: Path, tmp_path: Path) -> None:
    """`medmnist_hf.console` prints each of these errors as one line and exits with code 1."""
    good, other = write_scores(tmp_path, "breastmnist"), write_scores(tmp_path, "pneumoniamnist")
    nan, short = tmp_path / "breastmnist_test@nan.csv", tmp_path / "breastmnist_test@short.csv"
    nan.write_text("0,nan\n")
    short.write_text("0,0.5\n")
    unknown = tmp_path / "brestmnist_test@x.csv"
    unknown.write_text("0,0.5\n")
    for arguments, says in (
        (("compare", good, other, "--data", data), "compare files of one subset and split"),
        (("compare", good, nan, "--data", data), "line 1 has 'nan' as a score"),
        (("compare", good, short, "--data", data), "1 row, but the test split"),
        (("compare", good, good, "--data", data, "--measure", "kappa"), "unknown measure 'kappa'"),
        (("leaderboard", "pathmnits"), "did you mean 'pathmnist'?"),
        (
            ("leaderboard", "breastmnist", other, "--data", data),
            "pneumoniamnist test by its name, not of breastmnist test: pass",
        ),
        (("leaderboard", "breastmnist", good, "--data", tmp_path), "no build of breastmnist"),
        (("evaluate", good, other, "--data", data, "--plot", tmp_path / "x.png"), "--plot draws one file"),
        (("evaluate", good, "--data", data, "--plot", tmp_path / "x.gif"), "png, svg, pdf"),
    ):
        result = runner.invoke(app, list(map(str, arguments)))
        assert isinstance(result.exception, MedMNISTError), (arguments, result.output)
        assert says in str(result.exception) and "\n" not in str(result.exception)
    for path, says in (
        (unknown, "did you mean 'breastmnist'?"),
        (nan, "'nan'"),
        (short, "1 row"),
        (tmp_path / "no.csv", "no such file"),
    ):
        result = runner.invoke(app, ["evaluate", str(path), "--data", str(data)])
        assert result.exit_code == 1 and result.stdout == "" and says in result.stderr
        assert result.stderr.startswith("error: ") and len(result.stderr.splitlines()) == 1
    result = runner.invoke(app, ["evaluate", str(good), "--data", str(tmp_path)])
    assert result.exit_code == 1 and "no build of breastmnist at size 28" in result.stderr
    assert not list(tmp_path.glob("x.*"))


def test_the_wheel_has_the_commands() -> None:
    for name in ("evaluate", "compare", "leaderboard"):
        result = program(name, "--help")
        assert result.returncode == 0 and f"Example: medmnist-hf {name}" in result.stdout
    assert program("compare").returncode == 2
    assert program("evaluate").returncode == 2


@pytest.mark.parametrize(
    "where",
    [
        (),
        ("--root", "dist"),
        ("--root", "dist/breastmnist"),
        ("--data", "dist/breastmnist/28"),
        ("--root", "npz"),
        ("--data", "npz/mine.npz"),
    ],
)
def test_labels_are_found_by_the_file_name_or_by_options(
    phantoms: Phantoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: tuple[str, ...]
) -> None:
    """As every other command finds its data: ``dist`` without being output."""
    monkeypatch.delenv("MEDMNIST_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    build(phantoms, tmp_path / "dist", "breastmnist", 28, rows=60)
    (tmp_path / "npz").mkdir()
    for name in ("breastmnist.npz", "mine.npz"):
        shutil.copy(phantoms("breastmnist", 28, 60).path, tmp_path / "npz" / name)
    file = write_scores(tmp_path, "breastmnist")
    (output,) = facts("evaluate", file.name, *where)
    expected = "unverified" if "npz" in "".join(where) else "synthetic"
    assert output["provenance"] == expected and output["rows"] == len(phantom_rows())
    assert facts("compare", file.name, file.name, *where)["provenance"] == expected


def phantom_rows() -> Any:
    entry = subset("breastmnist")
    return phantom_labels(entry, phantom_counts(entry, 60), "test")


def test_measures_by_group(data: Path, tmp_path: Path) -> None:
    path = write_scores(tmp_path, "breastmnist")
    rows = evaluate_file(path, data).score.rows
    people = tmp_path / "people.csv"
    people.write_text("\n".join(["sex,age", *(f"{'fm'[row % 2]},{row % 90}" for row in range(rows))]))
    arguments = ("evaluate", path, "--data", data, "--by-file", people, "--resamples", "20", "--by")
    text = flat(run(*arguments, "sex"))
    assert "run.0 by sex sex rows auc [95 % DeLong] acc [95 % Wilson]" in text
    assert "acc: worst for " in text or "small: fewer than 30 rows" in text
    (result,) = facts(*arguments, "age")
    assert result["by"]["bins"] == "20 years each"
    assert sum(group["rows"] for group in result["by"]["groups"]) == rows
    refused = runner.invoke(app, ["evaluate", str(path), "--data", str(data), "--by-file", str(people)])
    assert isinstance(refused.exception, MedMNISTError) and "add --by" in str(refused.exception)
