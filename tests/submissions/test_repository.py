"""Entries on the loopback Hub: planned, opened as pull requests, checked there, merged and loaded."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationDelete

from medmnist_hf.errors import HubError, ScoreError
from medmnist_hf.hub import client
from medmnist_hf.hub.commit import CommitOptions, Pushed
from medmnist_hf.hub.tree import RemoteFile, RemoteTree, read_tree
from medmnist_hf.submissions.accepted import read_accepted
from medmnist_hf.submissions.check import Checked, check_entry
from medmnist_hf.submissions.repository import (
    entry_names,
    fetched,
    fetched_entry,
    plan_entry,
    push_entry,
    read_known,
    read_proposal,
)
from medmnist_hf.submissions.rows import Row
from medmnist_hf.typed_json import attributes, decode, encode
from tests.fixtures.entries import edit, leave_entry
from tests.fixtures.hub.server import HubServer

KIND, ID = "dataset", "org/medmnist-leaderboard"
OPTIONS = CommitOptions(ID)

LOAD = """
import json, sys
from datasets import load_dataset
rows = load_dataset("org/medmnist-leaderboard", split="test")
print(json.dumps([rows.column_names, rows.to_list()]))
"""


@pytest.fixture(scope="module")
def made(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two entries: two subsets with two seeds, and one subset with one seed of another method."""
    home = tmp_path_factory.mktemp("made")
    leave_entry(home / "mine", real_data, ("breastmnist", "retinamnist"), (0, 1))
    leave_entry(home / "other", real_data, seeds=(5,), method="Other", selected_on="unknown")
    return home


@pytest.fixture
def entries(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "made"))


class Submitter:
    """Pushes entries in this process."""

    def __init__(self, hub: HubServer, data: Path) -> None:
        self.hub, self.data, self.api = hub, data, hub.api()

    def main(self) -> RemoteTree:
        return read_tree(self.api, ID, repo_type=KIND)

    def check(self, folder: Path) -> Checked:
        exists = (KIND, ID) in self.hub.store.repos
        return check_entry(folder, read_known(self.api, self.main()) if exists else (), root=self.data)

    def push(self, folder: Path, *, replaces: bool = False) -> Pushed:
        checked = self.check(folder)
        plan = plan_entry(self.api, folder, checked, OPTIONS, replaces=replaces)
        return push_entry(self.api, plan, checked, OPTIONS)

    def merge(self, number: int) -> None:
        self.api.merge_pull_request(ID, number, repo_type=KIND)

    def review(self, number: int) -> tuple[str, ...]:
        """What a maintainer's check finds wrong."""
        proposal = read_proposal(self.api, ID, number)
        with fetched_entry(self.api, proposal.tree, proposal.name) as folder:
            checked = check_entry(folder, read_known(self.api, proposal.main), root=self.data, published=True)
        return (*proposal.faults, *checked.faults)

    def propose(self, files: dict[str, bytes]) -> int:
        """Open a pull request by hand."""
        number = self.api.create_discussion(ID, "x", repo_type=KIND, pull_request=True).num
        if files:
            self.hub.store.write(KIND, ID, dict(files), revision=f"refs/pr/{number}")
        return number


@pytest.fixture
def submitter(hub: HubServer, real_data: Path, monkeypatch: pytest.MonkeyPatch) -> Submitter:
    monkeypatch.setattr(client, "_FIRST_WAIT", 0.01)
    monkeypatch.setenv("HF_TOKEN", hub.token.secret)
    return Submitter(hub, real_data)


def test_merged_entries_are_ranked(submitter: Submitter, entries: Path) -> None:
    pushed = submitter.push(entries / "mine")
    assert pushed.committed and pushed.pull_request.endswith("/discussions/1")
    assert entry_names(submitter.main()) == [], "nothing is on main before it is merged"
    assert submitter.review(1) == ()
    again = submitter.push(entries / "mine")
    assert not again.committed and again.pull_request == pushed.pull_request, "the same pull request"
    submitter.merge(1)
    submitter.push(entries / "other")
    assert submitter.review(2) == ()
    submitter.merge(2)
    assert entry_names(submitter.main()) == ["mine", "other"]
    accepted = read_accepted(ID, "breastmnist", root=submitter.data)
    assert accepted.notes == () and [result.method for result in accepted.results] == ["Net", "Other"]
    rows = [row for name in ("mine", "other") for row in submitter.check(entries / name).rows]
    assert list(accepted.results) == [rows[0].result(), rows[2].result()]
    (retina,) = read_accepted(f"{ID}@main", "retinamnist", root=submitter.data).results
    assert retina == rows[1].result()


@pytest.mark.slow
def test_merged_entries_are_loaded(submitter: Submitter, entries: Path) -> None:
    """A column that is empty in one entry has the type of the others."""
    hub, expected = submitter.hub, list[Row]()
    for number, name in enumerate(("other", "mine"), start=1):
        submitter.push(entries / name)
        submitter.merge(number)
        expected = [*submitter.check(entries / name).rows, *expected]
    names, rows = json.loads(hub.load(LOAD, env=hub.env(anonymous=True)))
    assert names == list(attributes(Row)) and [row["entry"] for row in rows] == ["mine", "mine", "other"]
    assert [decode(row, Row) for row in rows[:2]] == expected[:2]
    assert rows[2]["auc_std"] is None and rows[2]["files"] == encode(expected[2].files)


def test_an_entry_of_another_is_not_replaced_by_mistake(submitter: Submitter, entries: Path, real_data: Path) -> None:
    submitter.push(entries / "mine")
    submitter.merge(1)
    assert submitter.push(entries / "mine").committed is False
    (first,) = (entries / "mine" / "seed-0").glob("breast*")
    shutil.rmtree(entries / "mine")
    leave_entry(entries / "mine", real_data, seeds=(8, 9), method="New")
    with pytest.raises(HubError, match="has an entry mine: rename the folder, or pass --replace if it is yours"):
        submitter.push(entries / "mine")
    submitter.push(entries / "mine", replaces=True)
    assert submitter.review(2) == ()
    submitter.merge(2)
    files = submitter.main().files
    assert f"entries/mine/seed-0/{first.name}" not in files and not any("seed-1/" in path for path in files)


def test_an_entry_with_faults_or_another_repository_is_refused(submitter: Submitter, entries: Path) -> None:
    checked = submitter.check(entries / "mine")
    hub = submitter.hub
    hub.store.create(KIND, "org/other")
    hub.store.write(KIND, "org/other", {"data.parquet": b"PAR1"})
    with pytest.raises(HubError, match="org/other holds other files than entries: name another repository"):
        plan_entry(submitter.api, entries / "mine", checked, CommitOptions("org/other"), replaces=False)
    edit(entries / "mine", "auc: ", "auc: 0.5 #")
    with pytest.raises(ScoreError, match="mine has faults: run medmnist-hf submit check"):
        submitter.push(entries / "mine")


def test_a_review_finds_what_a_pull_request_hides(submitter: Submitter, entries: Path) -> None:
    hub = submitter.hub
    submitter.push(entries / "mine")
    submitter.merge(1)
    submitter.push(entries / "other")
    honest = hub.store.files(KIND, ID, "refs/pr/2")
    theirs = {path: content for path, content in honest.items() if path.startswith("entries/other/")}
    rows = theirs["entries/other/results.jsonl"]
    flattered = {"entries/other/results.jsonl": rows.replace(b'"auc": 0.9', b'"auc": 0.99', 1)}
    foreign = {"README.md": b"# mine", "entries/other/model.pkl": b"\x80\x04."}
    hidden = ("entries/other/.model.pkl", "entries/other/seed-5/.model.pkl", "entries/other/.cache/hooks/commit")
    number = submitter.propose(theirs | flattered | foreign | dict.fromkeys(hidden, b"\x80\x04."))
    faults = "\n".join(submitter.review(number))
    assert "README.md: not part of the entry other: a pull request changes one entry and nothing else" in faults
    assert "model.pkl: not part of an entry" in faults
    assert "results.jsonl differs from what the prediction files give" in faults
    for path in (".model.pkl", "seed-5/.model.pkl", ".cache/hooks"):
        assert f"\n{path}: not part of an entry" in faults
    assert len(faults.splitlines()) == 6
    mine = hub.store.files(KIND, ID)["entries/mine/entry.yaml"]
    both = submitter.propose(theirs | {"entries/mine/entry.yaml": mine + b"# changed\n"})
    with pytest.raises(HubError, match=r"changes 2 entries \('mine', 'other'\): one is checked at a time"):
        read_proposal(submitter.api, ID, both)
    with pytest.raises(HubError, match="adds nothing to its main branch"):
        read_proposal(
            submitter.api, ID, submitter.api.create_discussion(ID, "x", repo_type=KIND, pull_request=True).num
        )
    gone = submitter.api.create_commit(
        ID,
        [CommitOperationDelete("entries/mine/", is_folder=True)],
        commit_message="x",
        repo_type=KIND,
        create_pr=True,
    )
    with pytest.raises(HubError, match="removes the entry 'mine': nothing to check"):
        read_proposal(submitter.api, ID, int(gone.pr_num or 0))
    copied = {path.replace("/mine/", "/copy/"): content for path, content in hub.store.files(KIND, ID).items()}
    copied = {path: content for path, content in copied.items() if "/copy/" in path}
    faults = "\n".join(submitter.review(submitter.propose(copied)))
    assert "the same predictions as seed 0 of the entry mine (Net), which was accepted before" in faults


def test_entries_merged_meanwhile_are_not_changes_of_a_pull_request(submitter: Submitter, entries: Path) -> None:
    submitter.push(entries / "mine")
    submitter.merge(1)
    submitter.push(entries / "other")
    third = Path(shutil.copytree(entries / "other", entries / "third"))
    submitter.merge(2)
    number = submitter.propose({"entries/third/entry.yaml": (third / "entry.yaml").read_bytes()})
    hub = submitter.hub
    hub.store.write(KIND, ID, {"entries/later/entry.yaml": b"method: x\n"})
    assert read_proposal(submitter.api, ID, number).name == "third"


def test_what_a_server_lists_cannot_lead_out_of_a_folder(submitter: Submitter) -> None:
    files = {"entries/mine/../../x.csv": RemoteFile(1, "0" * 40, None)}
    tree = RemoteTree(ID, KIND, True, False, "0" * 40, True, files)
    with pytest.raises(HubError, match="leads out of its folder"), fetched(submitter.api, tree, list(files)):
        pass
    large = RemoteTree(ID, KIND, True, False, "0" * 40, True, {"entries/a/entry.yaml": RemoteFile(1 << 30, "", None)})
    with pytest.raises(HubError, match="has more than"), fetched(submitter.api, large, list(large.files)):
        pass
