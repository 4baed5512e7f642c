"""Accepted entries, recomputed for a leaderboard; those with faults are left out with the reason."""

from pathlib import Path

import pytest

from medmnist_hf.errors import HubError, ScoreError
from medmnist_hf.submissions.accepted import read_accepted
from medmnist_hf.submissions.check import check_entry
from tests.fixtures.entries import edit, leave_entry
from tests.fixtures.hub.server import HubServer


def test_entries_of_a_folder(real_data: Path, tmp_path: Path) -> None:
    folders = [tmp_path / "entries" / name for name in ("aa", "bb", "cc")]
    leave_entry(folders[0], real_data, ("breastmnist", "retinamnist"))
    leave_entry(folders[1], real_data, seeds=(5,))
    leave_entry(folders[2], real_data, ("retinamnist",), seeds=(6,))
    expected = check_entry(folders[0], root=real_data).rows
    for place in (tmp_path, tmp_path / "entries"):
        found = read_accepted(str(place), "BreastMNIST", root=real_data)
        assert [each.locator for each in found.results] == ["entries/aa", "entries/bb"] and found.notes == ()
    assert found.results[0] == expected[0].result()
    (retina,) = read_accepted(str(folders[0]), "retinamnist", root=real_data).results
    assert retina == expected[1].result()
    edit(folders[1], "auc: ", "auc: 0.5 #")
    next(folders[0].glob("*/retina*")).unlink()
    found = read_accepted(str(tmp_path), "breastmnist", root=real_data)
    assert [each.locator for each in found.results] == ["entries/aa"], "what is missing of another subset"
    assert found.notes[0].startswith("the entry bb is left out: entry.yaml: results.breastmnist.auc claims 0.5")
    (folders[2] / "entry.yaml").write_text("method: x\n")
    notes = read_accepted(str(tmp_path), "breastmnist", root=real_data).notes
    assert notes[1] == "the entry cc is left out: cc/entry.yaml is not valid: it lacks size"


def test_other_places_are_refused(tmp_path: Path, hub: HubServer) -> None:
    with pytest.raises(ScoreError, match="holds no entry: an entry is a folder with"):
        read_accepted(str(tmp_path), "breastmnist")
    with pytest.raises(ScoreError, match="is neither a folder of entries nor a repository"):
        read_accepted("no/such/place", "breastmnist")
    hub.store.create("dataset", "org/other")
    with pytest.raises(HubError, match="org/other holds no entries: name a repository of entries"):
        read_accepted("org/other", "breastmnist")
    with pytest.raises(HubError, match="cannot read org/none"):
        read_accepted("org/none", "breastmnist")
