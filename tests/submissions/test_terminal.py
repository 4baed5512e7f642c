"""What is printed of a checked entry."""

import json
from pathlib import Path
from typing import Any

import pytest

from medmnist_hf import console
from medmnist_hf.submissions.check import check_entry
from medmnist_hf.submissions.terminal import checked_facts, print_checked
from tests.fixtures.entries import leave_entry
from tests.fixtures.scored import write_labels


def test_claims_stand_next_to_what_the_files_give(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checked = check_entry(leave_entry(tmp_path / "mine", real_data), root=real_data)
    print_checked(checked)
    text = capsys.readouterr().out
    claim, row = checked.entry.results["breastmnist"], checked.rows[0]
    assert text.startswith("mine: Net (2 seeds, files of size 28, pretraining none, adaptation scratch, labels all, ")
    (line,) = (line for line in text.splitlines() if line.startswith("breastmnist"))
    shown = [claim.auc, claim.auc_std, f"{row.auc:.4f}", f"{row.auc_std:.4f}"]
    shown += [claim.acc, claim.acc_std, f"{row.acc:.4f}", f"{row.acc_std:.4f}"]
    assert line.replace(" ± ", " ").split()[1:9] == list(map(str, shown))
    place = checked.places["breastmnist"][0]
    assert line.split()[-7:] == ["official", *str(place.auc).split(), "of", "8", *str(place.acc).split(), "of", "8"]
    console.print_json(checked_facts(checked))
    facts = json.loads(capsys.readouterr().out)
    assert facts["accepted"] and facts["faults"] == [] and facts["provenance"] == "verified"
    assert facts["rows"][0]["auc"] == row.auc and facts["rows"][0]["files"][1]["seed"] == 1
    assert facts["places"]["breastmnist"] == [{"protocol": "official", "auc": place.auc, "acc": place.acc, "of": 8}]


def test_results_on_labels_that_are_not_official_are_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_labels(tmp_path)
    values: dict[str, Any] = {"image_size": 224, "resize": "bicubic", "selected_on": "test"}
    print_checked(check_entry(leave_entry(tmp_path / "mine", root, **values), root=root))
    text = capsys.readouterr().out
    assert text.startswith("UNVERIFIED: ") and "input 224 (bicubic)" in text
    assert "selected on the test split are listed apart" in text and " of 8" not in text
