"""Checks of entries: scores are recomputed, and each kind of fault is a line of its own."""

import re
import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest

from medmnist_hf.errors import ScoreError
from medmnist_hf.evaluation.evaluate import evaluate_file
from medmnist_hf.evaluation.prediction_files import write_scores
from medmnist_hf.leaderboard.board import leaderboard
from medmnist_hf.submissions.check import Checked, check_entry, read_entry
from medmnist_hf.submissions.folder import ROWS_NAME
from medmnist_hf.submissions.rows import rows_text
from tests.fixtures.entries import edit, leave_entry, predict
from tests.fixtures.scored import write_labels


@pytest.fixture(scope="module")
def made(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return leave_entry(tmp_path_factory.mktemp("made") / "mine", real_data, ("breastmnist", "retinamnist"), (3, 7))


@pytest.fixture
def entry(made: Path, tmp_path: Path) -> Path:
    """An entry without faults, on two subsets with two seeds."""
    return Path(shutil.copytree(made, tmp_path / "mine"))


def files(entry: Path, pattern: str = "*/breastmnist*") -> list[Path]:
    return sorted(entry.glob(pattern))


def only_fault(checked: Checked) -> str:
    (fault,) = checked.faults
    return fault


def test_scores_are_those_of_the_files(entry: Path, real_data: Path) -> None:
    seen: list[str] = []
    checked = check_entry(entry, root=real_data, on_file=seen.append)
    assert checked.faults == () and checked.name == "mine" and len(seen) == 4
    assert [row.subset for row in checked.rows] == ["breastmnist", "retinamnist"]
    for row in checked.rows:
        scores = [evaluate_file(path, root=real_data).score for path in files(entry, f"*/{row.subset}*")]
        assert [file.auc for file in row.files] == [score.auc for score in scores]
        assert (row.auc, row.acc) == tuple(
            statistics.fmean(getattr(s, name) for s in scores) for name in ("auc", "acc")
        )
        assert row.auc_std == statistics.stdev(score.auc for score in scores)
        (place,) = checked.places[row.subset]
        board = leaderboard(row.subset, "official", entries=[row.result()])
        (line,) = (line for line in board.ranked if line.result == row.result())
        assert (place.protocol, place.auc, place.acc) == ("official", line.auc_rank, line.acc_rank)
        assert place.of == len(board.ranked) == len(leaderboard(row.subset, "official").ranked) + 1
    assert [row.subset for row in check_entry(entry, root=real_data, only="retinamnist").rows] == ["retinamnist"]


def test_a_result_selected_on_test_has_no_place(entry: Path, real_data: Path) -> None:
    edit(entry, "selected_on: validation", "selected_on: test")
    checked = check_entry(entry, root=real_data)
    (place,) = checked.places["breastmnist"]
    assert checked.faults == () and place.auc is place.acc is None


def test_a_missing_seed_is_not_a_wrong_spread(entry: Path, real_data: Path) -> None:
    shutil.rmtree(entry / "seed-7")
    faults = check_entry(entry, root=real_data).faults
    assert "entry.yaml: seeds is 2, but there are 1 folders of seeds with files" in faults
    assert not any("_std" in fault for fault in faults)


@pytest.mark.parametrize(("old", "new"), [("auc: ", "auc: 0.5 #"), ("acc_std: ", "acc_std: 0.3 #")])
def test_a_claim_that_the_files_do_not_give(old: str, new: str, entry: Path, real_data: Path) -> None:
    edit(entry, old, new)
    fault = only_fault(check_entry(entry, root=real_data))
    name = old.removesuffix(": ")
    row = check_entry(entry, root=real_data).rows[0]
    assert fault.startswith(f"entry.yaml: results.breastmnist.{name} claims 0.")
    assert fault.endswith(f"but the files give {getattr(row, name):.3f}: correct it")


def test_claims_count_to_their_last_digit(entry: Path, real_data: Path) -> None:
    row, claim = check_entry(entry, root=real_data).rows[0], read_entry(entry).results["breastmnist"]
    edit(entry, f"auc: {claim.auc}", f"auc: {round(row.auc, 7)}")
    assert check_entry(entry, root=real_data).faults == ()
    edit(entry, f"auc: {round(row.auc, 7)}", f"auc: {round(row.auc, 7) + 1e-7:.7f}")
    assert "results.breastmnist.auc claims" in only_fault(check_entry(entry, root=real_data))


def test_rows_that_are_missing_are_named(entry: Path, real_data: Path) -> None:
    inner, last = files(entry)
    lines = inner.read_text().splitlines(keepends=True)
    inner.write_text("".join(lines[:50] + lines[51:]))
    last.write_text("".join(last.read_text().splitlines(keepends=True)[:-1]))
    checked = check_entry(entry, root=real_data)
    assert [row.subset for row in checked.rows] == ["retinamnist"], "what could be scored"
    assert checked.faults[0].startswith(f"seed-3/{inner.name}: row 50 is missing: ")
    assert checked.faults[1] == (
        f"seed-7/{last.name}: 155 rows, but breastmnist test has 156 in release 3.0.0: predict every row of that file"
    )


def test_files_of_an_older_release_are_recognized_by_their_rows(tmp_path: Path) -> None:
    root, entry = write_labels(tmp_path), tmp_path / "older"
    for count in (8268, 8829):
        flag = {8268: "organcmnist", 8829: "organsmnist"}[count]
        leave_entry(entry, root, (flag,), (0,))
        (path,) = files(entry, f"*/{flag}*")
        write_scores(path, np.full((count, 11), 0.5))
        fault = check_entry(entry, root=root).faults[0]
        assert f": {count:,} rows, which are those of the files before 2.2.4, but {flag} test has " in fault
        path.unlink()


def test_another_release_is_refused(entry: Path, real_data: Path) -> None:
    edit(entry, "release: 3.0.0", "release: 2.2.3")
    edit(entry, "  breastmnist:\n", f"  breastmnist:\n    md5: {'a' * 32}\n")
    release, digest = check_entry(entry, root=real_data).faults
    assert release.startswith("entry.yaml: release is 2.2.3, but scores are recomputed on the files of release 3.0.0")
    assert digest.startswith(
        f"entry.yaml: results.breastmnist.md5 is {'a' * 32}, but breastmnist.npz of release 3.0.0"
    )


def test_seeds_and_subsets_are_complete_and_have_no_others(entry: Path, real_data: Path) -> None:
    first, second = files(entry)
    first.unlink()
    predict(second.parent, real_data, "breastmnist", 8)
    (entry / "seed-9").mkdir()
    other = files(entry, "seed-3/retinamnist*")[0]
    other.rename(entry / "seed-9" / other.name.replace("_test_", "_64_test_"))
    (entry / "seed-9" / "pathmnist_test_x.csv").touch()
    (entry / "weights.pkl").write_bytes(b"\x80\x04.")
    faults = check_entry(entry, root=real_data).faults
    for expected in (
        "weights.pkl: not part of an entry",
        "entry.yaml: seeds is 2, but there are 2 folders",
        "seed-9/pathmnist_test_x.csv: entry.yaml has no results of pathmnist",
        "predictions for test at size 64, but the entry is for test at size 28",
        "seed-7: 2 prediction files of breastmnist",
        "seed-9: no prediction files of breastmnist",
    ):
        assert (expected in "\n".join(faults)) is not expected.startswith("entry.yaml: seeds"), expected


def test_two_seeds_with_the_same_predictions(entry: Path, real_data: Path) -> None:
    first, second = files(entry)
    second.unlink()
    lines = [line.split(",") for line in first.read_text().split()]
    written = [",".join([row, *(f" {float(cell):.17e}" for cell in cells)]) for row, *cells in lines]
    second.with_name(first.name).write_text("\n".join(written))
    text = (entry / "entry.yaml").read_text()
    auc, acc = re.findall(r"0\.\d+", first.name)
    claims = f"breastmnist:\n    auc: {auc}\n    auc_std: 0.0\n    acc: {acc}\n    acc_std: 0.0\n  retina"
    (entry / "entry.yaml").write_text(re.sub(r"breastmnist:\n.*?retina", claims, text, flags=re.DOTALL))
    fault = only_fault(check_entry(entry, root=real_data))
    assert fault.startswith(f"seed-7/{first.name}: the same predictions as seed-3/{first.name}: ")


def test_entries_that_were_accepted_before(entry: Path, real_data: Path, tmp_path: Path) -> None:
    known = check_entry(entry, root=real_data).rows
    assert check_entry(entry, known, root=real_data).faults == (), "the same entry"
    copy = Path(shutil.copytree(entry, tmp_path / "copy"))
    faults = check_entry(copy, known, root=real_data).faults
    assert (
        sum("the same predictions as seed 3 of the entry mine (Net), which was accepted" in each for each in faults)
        == 2
    )
    assert sum("the entry mine has Net under the same protocol: say in method how" in each for each in faults) == 2
    edit(copy, "method: Net", "method: Another")
    assert all("the same predictions" in each for each in check_entry(copy, known, root=real_data).faults)
    fresh = leave_entry(tmp_path / "fresh", real_data, seeds=(1, 2), method="Another")
    checked = check_entry(fresh, known, root=real_data)
    assert checked.faults == () and checked.places["breastmnist"][0].of == 9, "with those accepted before"


def test_damaged_files_name_what_is_wrong(entry: Path, real_data: Path) -> None:
    first, second = files(entry)
    lines = first.read_text().splitlines()
    first.write_text("\n".join([lines[0].replace("0,", "0,7", 1), *lines[1:]]))
    second.unlink()
    second.symlink_to("/etc/passwd")
    retina = files(entry, "*/retinamnist*")
    retina[0].write_bytes(b"PK\x03\x04")
    retina[1].rename(retina[1].with_name(re.sub(r"\[AUC\]0\.\d+", "[AUC]0.999", retina[1].name)))
    faults = check_entry(entry, root=real_data).faults
    assert re.match(r"seed-3/breastmnist_test_.*: scores .*outside 0..1|seed-3/breastmnist.*", faults[0]), faults[0]
    assert "it is a link to /etc/passwd" in faults[1]
    assert faults[2].startswith("seed-3/retinamnist_test_") and "line 1" in faults[2]
    assert "its name claims AUC 0.999, but its scores give 0." in faults[3]


def test_labels_that_are_not_official_prove_nothing(tmp_path: Path) -> None:
    root = write_labels(tmp_path)
    checked = check_entry(leave_entry(tmp_path / "mine", root), root=root)
    assert only_fault(checked) == (
        "the labels are unverified, so nothing is proved: give --root with the official data"
    )
    assert checked.places == {}


def test_a_published_entry_holds_its_recomputed_rows(entry: Path, real_data: Path) -> None:
    def fault() -> str:
        return only_fault(check_entry(entry, root=real_data, published=True))

    assert fault().startswith("results.jsonl is missing")
    rows = check_entry(entry, root=real_data).rows
    (entry / ROWS_NAME).write_text(rows_text(rows))
    assert check_entry(entry, root=real_data, published=True).faults == ()
    (entry / ROWS_NAME).write_text(rows_text(rows[:1]))
    assert fault().startswith("results.jsonl differs from what the prediction files give")
    (entry / ROWS_NAME).write_text("{}")
    assert fault().startswith("results.jsonl is not valid")


def test_a_missing_description_or_a_link_to_one(tmp_path: Path, real_data: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(ScoreError, match=r"^empty/entry.yaml is missing: medmnist-hf submit init writes one"):
        check_entry(folder, root=real_data)
    (folder / "entry.yaml").symlink_to("/etc/passwd")
    with pytest.raises(ScoreError, match="it is a link to /etc/passwd"):
        check_entry(folder, root=real_data)
