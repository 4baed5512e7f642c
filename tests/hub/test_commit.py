"""Commits to each type of repository: what readers see after faults, rival pushes and lost responses."""

import dataclasses
import re
from functools import partial

import pytest

from medmnist_hf.errors import HubError
from medmnist_hf.hub import client
from medmnist_hf.hub.commit import CommitOptions, Pushed, commit_plan, set_tag
from medmnist_hf.hub.files import PushFile
from medmnist_hf.hub.plan import Change, FilePlan, changes_of
from medmnist_hf.hub.tree import read_tree
from tests.fixtures.hub.server import Fault, HubServer

ID = "org/thing"
CARD = b"---\nlicense: mit\nsdk: static\n---\nA card.\n"
LARGE, COMMIT = "^/lfs/", "/commit/"
FILES = {"README.md": CARD, "notes.txt": b"ours", "weights.safetensors": b"large" * 1000}


class Pusher:
    """Pushes files to one repository and removes other files in ``old/``."""

    def __init__(self, hub: HubServer, repo_type: str) -> None:
        self.hub, self.repo_type, self.api = hub, repo_type, hub.api()

    def compare(self, files: dict[str, bytes], revision: str, *, missing_ok: bool = False) -> FilePlan:
        state = read_tree(self.api, ID, revision, repo_type=self.repo_type, missing_ok=missing_ok)
        push_files = {path: PushFile.from_bytes(content) for path, content in files.items()}
        removals = [
            Change(path, "removed", file.size)
            for path, file in state.files.items()
            if path.startswith("old/") and path not in files
        ]
        return FilePlan(state, (*changes_of(push_files, state.files), *removals), push_files)

    def plan(self, files: dict[str, bytes] | None = None, revision: str = "main") -> FilePlan:
        return self.compare(FILES if files is None else files, revision, missing_ok=True)

    def push(self, files: dict[str, bytes] | None = None, plan: FilePlan | None = None, **options: object) -> Pushed:
        files = FILES if files is None else files
        target = CommitOptions(ID, **options)  # type: ignore[arg-type]
        return commit_plan(
            self.api,
            plan or self.plan(files, target.revision),
            target,
            title="Push files",
            compare=lambda: self.compare(files, target.revision),
            read_back=partial(read_tree, self.api, ID, repo_type=self.repo_type),
        )

    def contents(self, revision: str = "main") -> dict[str, bytes]:
        files = self.hub.store.files(self.repo_type, ID, revision)
        files.pop(".gitattributes")
        return files

    def titles(self) -> list[str]:
        repo = self.hub.store.repos[self.repo_type, ID]
        return [commit.title for commit in repo.history(repo.resolve("main"))]

    def tags(self) -> dict[str, str]:
        return self.hub.store.repos[self.repo_type, ID].tags

    def rival(self, files: dict[str, bytes | None]) -> None:
        """Make another commit just before this push makes its own."""
        self.hub.faults.add(Fault("POST", COMMIT, action=lambda: self.hub.store.write(self.repo_type, ID, files)))


@pytest.fixture(params=["dataset", "model", "space"])
def pusher(request: pytest.FixtureRequest, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> Pusher:
    """A pusher that waits only a moment before retries."""
    monkeypatch.setattr(client, "_FIRST_WAIT", 0.01)
    return Pusher(hub, request.param)


class TestCommit:
    def test_a_first_push_makes_one_commit_with_only_the_files(self, pusher: Pusher) -> None:
        assert not pusher.plan().state.exists
        pushed = pusher.push(tag="v1", message="The first")
        assert pusher.contents() == FILES and pusher.titles() == ["The first", "initial commit"]
        assert pusher.tags() == {"v1": pushed.sha} and pushed == Pushed(ID, pushed.sha, True, "", "v1")

    def test_an_unchanged_push_makes_no_commit_and_sends_nothing(self, pusher: Pusher) -> None:
        first = pusher.push()
        pusher.hub.log.clear()
        assert pusher.push() == Pushed(ID, first.sha, False)
        assert not pusher.hub.log.find("POST|PUT") and len(pusher.titles()) == 2
        assert pusher.push(tag="v1").committed is False and pusher.tags() == {"v1": first.sha}

    def test_only_a_changed_file_is_uploaded_and_other_files_stay(self, pusher: Pusher) -> None:
        pusher.push(FILES | {"old/one.txt": b"1"})
        pusher.hub.store.write(pusher.repo_type, ID, {"mine.txt": b"mine"})
        pusher.hub.log.clear()
        changed = FILES | {"notes.txt": b"changed"}
        assert pusher.push(changed).committed and pusher.contents() == changed | {"mine.txt": b"mine"}
        assert pusher.titles()[0] == "Push files" and not pusher.hub.log.find("PUT")

    def test_a_branch_is_created_and_main_is_unchanged(self, pusher: Pusher) -> None:
        pusher.push()
        same = pusher.push(revision="copy")
        assert not same.committed and pusher.contents("copy") == FILES
        changed = FILES | {"notes.txt": b"changed"}
        assert pusher.push(changed, revision="next/one").committed
        assert pusher.contents("next/one") == changed and pusher.contents() == FILES

    def test_a_pull_request_leaves_main_alone(self, pusher: Pusher) -> None:
        pusher.push()
        changed = FILES | {"notes.txt": b"changed"}
        opened = pusher.push(changed, create_pr=True)
        assert opened.committed and opened.pull_request.endswith("/discussions/1")
        assert pusher.contents() == FILES and pusher.contents("refs/pr/1") == changed

    def test_a_new_repository_may_be_private(self, pusher: Pusher) -> None:
        pusher.push(private=True)
        assert pusher.hub.store.repos[pusher.repo_type, ID].private

    def test_many_files_are_uploaded_in_batches_and_counted_once(self, pusher: Pusher) -> None:
        files = FILES | {f"{number}.safetensors": b"%d" % number for number in range(40)}
        counts: list[int] = []
        pusher.rival({"another.txt": b"1"})
        commit_plan(
            pusher.api,
            pusher.plan(files),
            CommitOptions(ID),
            title="Many",
            compare=lambda: pusher.compare(files, "main"),
            read_back=partial(read_tree, pusher.api, ID, repo_type=pusher.repo_type),
            on_progress=counts.append,
        )
        assert len(counts) == 2 and sum(counts) == sum(map(len, files.values()))
        assert pusher.contents() == files | {"another.txt": b"1"} and len(pusher.hub.log.find("PUT", LARGE)) == 41
        assert len(pusher.hub.log.find("POST", "/objects/batch")) == 2, "uploaded files are requested again"

    def test_a_card_that_the_hub_refuses_changes_nothing(self, pusher: Pusher) -> None:
        pusher.hub.faults.add(Fault("POST", "validate-yaml", status=400, message="no such license"))
        with pytest.raises(HubError, match=r"cannot push the card of org/thing .*no such license"):
            pusher.push()
        assert not pusher.hub.store.repos

    def test_users_without_permission(self, pusher: Pusher) -> None:
        hub = pusher.hub
        for api, match in ((hub.api(anonymous=True), "no token"), (hub.api(hub.read_token), "write access")):
            pusher.api = api
            with pytest.raises(HubError, match=match) as caught:
                pusher.push()
            assert "\n" not in str(caught.value) and "hf_" not in str(caught.value)
        assert not hub.store.repos

    def test_the_commit_is_verified_before_it_is_tagged(self, pusher: Pusher) -> None:
        pusher.push()
        pusher.hub.faults.add(
            Fault("GET", "/tree/", skip=1, garble=lambda body: body.replace(b"notes.txt", b"other.txt"))
        )
        with pytest.raises(HubError, match=r"notes\.txt of org/thing differs from the pushed file: run again"):
            pusher.push(tag="v1")
        assert not pusher.tags()


FAULTS = {
    "500 after the repository was created": Fault("POST", "/repos/create", status=500, after=True),
    "500 on the card's check": Fault("POST", "validate-yaml", status=500),
    "503 on reading": Fault("GET", "/tree/", status=503),
    "429 before the upload": Fault("POST", "/preupload/", status=429, headers={"Retry-After": "0"}),
    "500 on a large file": Fault("PUT", LARGE, status=500),
    "503 on the commit": Fault("POST", COMMIT, status=503),
    "429 with a wait": Fault("POST", COMMIT, status=429, headers={"Retry-After": "0"}),
    "504 after the commit was made": Fault("POST", COMMIT, status=504, after=True),
    "response lost after the commit": Fault("POST", COMMIT, lose_answer=True, after=True),
    "response lost before the commit": Fault("POST", COMMIT, lose_answer=True),
    "connection cut within the commit": Fault("POST", COMMIT, drop_received=100),
    "response lost after the tag": Fault("POST", "/tag/", lose_answer=True, after=True),
}


@pytest.mark.parametrize("pusher", ["model", "space"], indirect=True)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=[name.replace(" ", "-") for name in FAULTS])
def test_a_failing_hub_is_retried_and_gets_one_commit(pusher: Pusher, fault: Fault) -> None:
    active_fault = pusher.hub.faults.add(dataclasses.replace(fault))
    pushed = pusher.push(tag="v1")
    assert active_fault.hits == 1 and pushed.committed
    assert pusher.contents() == FILES and pusher.titles() == ["Push files", "initial commit"]
    assert pusher.tags() == {"v1": pushed.sha}


REFUSALS = {
    "503 on every commit": (Fault("POST", COMMIT, times=-1, status=503), r"cannot push to org/thing \(HTTP 503"),
    "429 for an hour": (Fault("POST", COMMIT, status=429, headers={"Retry-After": "3600"}), "too many requests"),
    "400 on the commit": (Fault("POST", COMMIT, status=400, message="not today"), "not today"),
    "always stale": (Fault("POST", COMMIT, times=-1, status=412), "others push to it all the time, run again later"),
    "403 on the upload": (Fault("POST", "/objects/batch", status=403), "cannot upload to org/thing .*write access"),
}


@pytest.mark.parametrize("pusher", ["model", "space"], indirect=True)
@pytest.mark.parametrize(("fault", "match"), REFUSALS.values(), ids=[name.replace(" ", "-") for name in REFUSALS])
def test_the_next_push_completes_a_failed_one(pusher: Pusher, fault: Fault, match: str) -> None:
    pusher.push()
    changed = FILES | {"notes.txt": b"changed", "weights.safetensors": b"other" * 1000}
    active_fault = pusher.hub.faults.add(dataclasses.replace(fault))
    with pytest.raises(HubError, match=match) as caught:
        pusher.push(changed, tag="v1")
    assert active_fault.hits and "\n" not in str(caught.value)
    assert pusher.contents() == FILES and not pusher.tags()
    pusher.hub.faults.clear()
    sent = pusher.hub.log.received("PUT", LARGE)
    pusher.push(changed, tag="v1")
    assert pusher.contents() == changed and len(pusher.titles()) == 3
    assert pusher.hub.log.received("PUT", LARGE) == 10000 and sent in {5000, 10000}


def test_a_pull_request_is_not_opened_twice(pusher: Pusher) -> None:
    pusher.push()
    pusher.hub.faults.add(Fault("POST", COMMIT, status=504, after=True))
    with pytest.raises(HubError, match="HTTP 504"):
        pusher.push(FILES | {"notes.txt": b"changed"}, create_pr=True)
    assert list(pusher.hub.store.repos[pusher.repo_type, ID].discussions) == [1]


class TestRivals:
    """Another commit is made between our comparison and our commit."""

    def test_files_that_a_rival_adds_stay(self, pusher: Pusher) -> None:
        pusher.push()
        pusher.rival({"rival.txt": b"rival"})
        changed = FILES | {"notes.txt": b"changed"}
        assert pusher.push(changed, tag="v1").committed
        assert pusher.contents() == pusher.contents("v1") == changed | {"rival.txt": b"rival"}
        assert len(pusher.titles()) == 4

    def test_the_same_files_twice_are_one_commit(self, pusher: Pusher) -> None:
        pusher.push()
        changed = FILES | {"notes.txt": b"changed"}
        pusher.rival(dict(changed))
        assert not pusher.push(changed).committed
        assert pusher.contents() == changed and len(pusher.titles()) == 3

    @pytest.mark.parametrize("path", ["notes.txt", "README.md", "weights.safetensors"])
    def test_a_file_that_a_rival_changes_is_not_overwritten(self, pusher: Pusher, path: str) -> None:
        """Whether this push would change the file or not."""
        pusher.push()
        pusher.rival({path: b"rival"})
        with pytest.raises(HubError, match=re.escape(f"has changed {path} of org/thing meanwhile: run again to see")):
            pusher.push(FILES | {"notes.txt": b"changed"}, tag="v1")
        assert pusher.contents() == FILES | {path: b"rival"} and not pusher.tags()

    def test_a_rival_between_the_plan_and_the_push_is_noticed(self, pusher: Pusher) -> None:
        first = pusher.plan()
        Pusher(pusher.hub, pusher.repo_type).push(FILES | {"notes.txt": b"rival"})
        with pytest.raises(HubError, match=r"has changed notes\.txt of org/thing meanwhile"):
            pusher.push(plan=first)
        assert pusher.contents()["notes.txt"] == b"rival"

    def test_only_files_in_the_plan_are_removed(self, pusher: Pusher) -> None:
        pusher.push()
        pusher.rival({"old/rival.txt": b"rival"})
        with pytest.raises(HubError, match=r"has added old/rival\.txt to org/thing meanwhile, which this push"):
            pusher.push(FILES | {"notes.txt": b"changed"})
        assert pusher.contents() == FILES | {"old/rival.txt": b"rival"}


def test_a_tag_is_set_once_and_does_not_move(pusher: Pusher) -> None:
    first = pusher.push(tag="v1")
    state = read_tree(pusher.api, ID, repo_type=pusher.repo_type)
    set_tag(pusher.api, state, "v1")
    pusher.push(FILES | {"notes.txt": b"changed"})
    later = read_tree(pusher.api, ID, repo_type=pusher.repo_type)
    with pytest.raises(HubError, match=f"already has the tag v1 at {first.sha[:12]}, and tags never move"):
        set_tag(pusher.api, later, "v1")
    assert pusher.tags() == {"v1": first.sha}


@pytest.mark.parametrize(
    ("pushed", "line"),
    [
        (Pushed(ID, "0123456789abcdef", True), "org/thing: commit 0123456789ab, all files checked"),
        (
            Pushed(ID, "0123456789abcdef", False, tag="v1"),
            "org/thing: unchanged, no commit made; at 0123456789ab, all files checked, tagged v1",
        ),
        (Pushed(ID, "0123456789abcdef", True, "URL"), "org/thing: pull request URL, all files checked"),
        (
            Pushed(ID, "0123456789abcdef", False, "URL"),
            "org/thing: unchanged, no commit made; pull request URL, all files checked",
        ),
    ],
)
def test_the_summary_of_a_push(pushed: Pushed, line: str) -> None:
    assert pushed.summary() == line
