"""Pushes to the loopback Hub with the real client: what is sent, and what readers see after faults and rivals."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from medmnist_hf.errors import HubError, MedMNISTError, VerificationError
from medmnist_hf.hub.commit import Pushed
from medmnist_hf.hub.dataset_plan import PushOptions, plan_push
from medmnist_hf.hub.dataset_push import add_to_collection, push
from medmnist_hf.hub.dataset_state import config_names, fetch_config, read_state
from medmnist_hf.manifest import read_manifest
from tests.fixtures.hub import eval as hub_eval
from tests.fixtures.hub.server import Fault, HubServer
from tests.fixtures.pushing import ID, KIND, LARGE, Pusher, check_complete, content_of, describe


class TestPush:
    def test_a_first_push_makes_one_commit_with_only_the_build(self, pusher: Pusher) -> None:
        plan = pusher.plan("28")
        assert not plan.state.exists and {change.action for change in plan.changes} == {"new"}
        assert (KIND, ID) not in pusher.hub.store.repos
        pushed = pusher.push("28", PushOptions(ID, tag="v1", message="The first"))
        contents = pusher.files()
        attributes = contents.pop(".gitattributes")
        assert contents == content_of(plan) and attributes
        local = {path.relative_to(pusher.dists["28"]).as_posix() for path in pusher.dists["28"].rglob("*.*")}
        assert set(contents) == {path for path in local if not path.startswith(".")}
        assert pusher.titles() == ["The first", "initial commit"]
        assert pusher.hub.store.repos[KIND, ID].tags == {"v1": pushed.sha}
        assert pushed == Pushed(ID, pushed.sha, True, "", "v1")

    def test_an_unchanged_push_makes_no_commit_and_sends_nothing(self, pusher: Pusher) -> None:
        first = pusher.push("28")
        pusher.hub.log.clear()
        again = pusher.push("28")
        assert (again.sha, again.committed) == (first.sha, False)
        assert len(pusher.titles()) == 2
        assert not pusher.hub.log.find("PUT") and not pusher.hub.log.find("POST")
        tagged = pusher.push("28", PushOptions(ID, tag="v1"))
        assert not tagged.committed and pusher.hub.store.repos[KIND, ID].tags == {"v1": first.sha}
        assert pusher.push("28", PushOptions(ID, tag="v1")).sha == first.sha

    def test_a_second_size_does_not_change_the_first(self, pusher: Pusher) -> None:
        pusher.push("28", PushOptions(ID, tag="v1"))
        before = pusher.files()
        pusher.hub.log.clear()
        plan = pusher.plan("64")
        assert sorted(plan.paths("changed")) == ["README.md", "croissant.json", "eval.yaml"]
        assert not plan.paths("removed")
        pushed = pusher.push("64")
        after = pusher.files()
        assert {path: after[path] for path in before if path.startswith("28/")} == {
            path: content for path, content in before.items() if path.startswith("28/")
        }
        assert after["montage.png"] == before["montage.png"]
        assert pushed.committed
        assert config_names(after["README.md"].decode(), "it") == ["28", "64"]
        sent = sum(len(content) for path, content in after.items() if path.startswith("64/") and "parquet" in path)
        assert pusher.hub.log.received("PUT", LARGE) == sent
        assert pusher.files("v1") == before
        # Both orders, and both at once, lead to the same card.
        assert pusher.plan("both").empty

    def test_pruning_shows_and_removes_files_that_the_build_lacks(self, pusher: Pusher) -> None:
        pusher.push("both")
        pusher.hub.store.write(KIND, ID, {"loader.py": b"1", "notes.txt": b"2"})
        with pytest.raises(HubError, match=r"has loader.py, which was not pushed by medmnist-hf"):
            pusher.plan("64")
        options = PushOptions(ID, prune=True)
        removed = pusher.plan("64", options).paths("removed")
        assert set(removed) == {path for path in pusher.files() if path.startswith("28/")} | {"loader.py", "notes.txt"}
        assert pusher.plan("64", options).configs == ("64",)
        assert pusher.push("64", options).committed
        contents = pusher.files()
        assert contents.pop(".gitattributes")
        assert contents == content_of(pusher.plan("64"))

    def test_other_rows_replace_the_shards_of_their_config(self, pusher: Pusher) -> None:
        pusher.push("28")
        before = set(pusher.files())
        pusher.push("other")
        contents = pusher.files()
        check_complete(pusher)
        assert {path for path in contents if path.endswith(".parquet")}.isdisjoint(
            path for path in before if path.startswith("28/train")
        )

    def test_a_branch_and_a_pull_request_leave_main_alone(self, pusher: Pusher) -> None:
        pusher.push("28")
        before = pusher.files()
        options = PushOptions(ID, revision="next/one", tag="v2")
        pushed = pusher.push("64", options)
        assert pusher.files() == before and pusher.hub.store.repos[KIND, ID].tags == {"v2": pushed.sha}
        check_complete(pusher, "next/one")
        opened = pusher.push("64", PushOptions(ID, create_pr=True))
        assert opened.pull_request.endswith("/discussions/1") and pusher.files() == before
        pusher.api.merge_pull_request(ID, 1, repo_type=KIND)
        check_complete(pusher)
        assert pusher.plan("64").empty

    def test_eval_yaml_has_tasks_for_each_config(self, pusher: Pusher) -> None:
        pusher.push("28")
        assert tasks(pusher) == ["28_auc", "28_acc"]
        pusher.push("64")
        assert tasks(pusher) == ["28_auc", "28_acc", "64_auc", "64_acc"]
        pusher.push("64", PushOptions(ID, prune=True))
        assert tasks(pusher) == ["64_auc", "64_acc"]

    def test_a_push_can_omit_tasks_that_the_hub_refuses(self, pusher: Pusher) -> None:
        def with_bad_tasks(*args: Any) -> dict[str, str]:
            return {**describe(*args), "eval.yaml": "name: MedMNIST\n"}

        options, build = PushOptions(ID), pusher.local("28")
        with pytest.raises(HubError, match=r"HTTP 400 Bad Request, Invalid eval\.yaml: Invalid input at description"):
            plan = plan_push(pusher.api, build, options, with_bad_tasks)
            push(pusher.api, build, plan, options, with_bad_tasks)
        without_tasks = partial(describe, tasks=False)
        push(pusher.api, build, plan_push(pusher.api, build, options, without_tasks), options, without_tasks)
        assert "eval.yaml" not in pusher.files()
        check_complete(pusher)

    def test_a_pull_request_is_opened_once(self, pusher: Pusher) -> None:
        pusher.push("28")
        options = PushOptions(ID, create_pr=True)
        first = pusher.push("64", options)
        plan = pusher.plan("64", options)
        assert [(request.url, request.same) for request in plan.pull_requests] == [(first.pull_request, True)]
        pusher.hub.log.clear()
        again = pusher.push("64", options)
        assert (again.committed, again.pull_request, again.sha) == (False, first.pull_request, first.sha)
        assert not pusher.hub.log.find("PUT") and not pusher.hub.log.find("POST")
        assert list(pusher.hub.store.repos[KIND, ID].discussions) == [1]
        other = pusher.push("other", options)
        assert other.committed and other.pull_request.endswith("/discussions/2")

    def test_a_response_lost_after_a_pull_request_was_opened(self, pusher: Pusher) -> None:
        pusher.push("28")
        options = PushOptions(ID, create_pr=True)
        pusher.hub.faults.add(Fault("POST", COMMIT, status=504, after=True))
        with pytest.raises(HubError, match="HTTP 504"):
            pusher.push("64", options)
        assert pusher.push("64", options).pull_request.endswith("/discussions/1")
        assert list(pusher.hub.store.repos[KIND, ID].discussions) == [1]

    def test_private(self, pusher: Pusher) -> None:
        pusher.push("28", PushOptions(ID, private=True))
        assert pusher.hub.store.repos[KIND, ID].private
        with pytest.raises(HubError, match="no such repository"):
            check_complete(pusher)
        pusher.hub.store.repos[KIND, ID].private = False
        with pytest.raises(HubError, match="is public"):
            pusher.plan("28", PushOptions(ID, private=True))

    def test_tags_do_not_move(self, pusher: Pusher) -> None:
        first = pusher.push("28", PushOptions(ID, tag="v1"))
        for name in ("64", "28"):
            if name == "28":
                pusher.hub.store.write(KIND, ID, {"notes.txt": b"1"})
            with pytest.raises(HubError, match=r"already has the tag v1 at "):
                pusher.plan(name, PushOptions(ID, tag="v1"))
        assert pusher.hub.store.repos[KIND, ID].tags == {"v1": first.sha}

    def test_an_incomplete_commit_is_not_tagged(self, pusher: Pusher) -> None:
        """A shard is missing when the commit is read back."""
        made = pusher.push("28")
        lost = next(path for path in pusher.files() if path.startswith("28/test"))
        pusher.hub.faults.add(
            Fault("GET", "/tree/", skip=1, times=-1, garble=lambda body: body.replace(b"28/test", b"xx/test"))
        )
        with pytest.raises(VerificationError, match=re.escape(f"lacks {lost}")):
            push(pusher.api, pusher.local("28"), pusher.plan("28"), PushOptions(ID, tag="v1"), describe)
        assert not pusher.hub.store.repos[KIND, ID].tags and made.committed

    def test_a_fetched_config_equals_the_build(self, pusher: Pusher) -> None:
        pusher.push("both")
        state = read_state(pusher.api, ID)
        folder = fetch_config(pusher.api, state, state.manifests[1])
        assert folder.name == "64" and read_manifest(folder) == state.manifests[1]
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
            path.name: path.read_bytes() for path in (pusher.dists["both"] / "64").iterdir()
        }


def tasks(pusher: Pusher) -> list[str]:
    """Return the ids of the tasks in the pushed ``eval.yaml``."""
    task_ids = re.findall(r"^- id: (.*)$", pusher.files()["eval.yaml"].decode(), flags=re.MULTILINE)
    assert hub_eval.fault(pusher.files()["eval.yaml"].decode()) is None
    return task_ids


@dataclass
class Case:
    """A fault and how the push ends: ``done``, or with an error that matches `ends`."""

    name: str
    faults: Callable[[HubServer], list[Fault]]
    ends: str = "done"


def fixed(*faults: Fault) -> Callable[[HubServer], list[Fault]]:
    return lambda hub: list(faults)


def expire(hub: HubServer) -> None:
    hub.token.expired = True


COMMIT, TREE = "/commit/", "/tree/"
CASES = [
    Case("500 on the commit", fixed(Fault("POST", COMMIT, status=500))),
    Case("504 after the commit was created", fixed(Fault("POST", COMMIT, status=504, after=True))),
    Case("response lost after the commit", fixed(Fault("POST", COMMIT, lose_answer=True, after=True))),
    Case("response lost before the commit", fixed(Fault("POST", COMMIT, lose_answer=True))),
    Case("connection cut within the commit", fixed(Fault("POST", COMMIT, drop_received=1000))),
    Case("400 on the commit", fixed(Fault("POST", COMMIT, status=400, message="not today")), "not today"),
    Case("413 on the commit", fixed(Fault("POST", COMMIT, status=413)), "too large"),
    Case("cut while a shard is uploaded", fixed(Fault("PUT", LARGE, skip=1, drop_received=5000))),
    Case("500 on a shard", fixed(Fault("PUT", LARGE, skip=1, status=500))),
    Case("403 on a shard", fixed(Fault("PUT", LARGE, skip=2, times=-1, status=403)), "HTTP 403|Error"),
    Case("403 on the upload", fixed(Fault("POST", "/objects/batch", status=403)), "write access"),
    Case("429 before the upload", fixed(Fault("POST", "/preupload/", status=429, headers={"Retry-After": "1"}))),
    Case("response cut on reading", fixed(Fault("GET", "/api/", drop_sent=40))),
    Case("response lost on reading", fixed(Fault("GET", "/revision/", skip=1, lose_answer=True))),
    Case("manifest damaged in transit", fixed(Fault("GET", "manifest.json", garble=lambda b: b[::-1])), "damaged"),
    Case("500 after the tag was set", fixed(Fault("POST", "/tag/", status=500, after=True))),
    Case("403 on the tag", fixed(Fault("POST", "/tag/", status=403)), "cannot tag"),
    Case("404 after the commit", fixed(Fault("GET", "/revision/", skip=2, status=404)), "cannot read"),
    Case("a slow response", fixed(Fault("POST", COMMIT, delay=0.3))),
    Case(
        "token expires on a shard", lambda hub: [Fault("POST", "/preupload/", action=lambda: expire(hub))], "expired"
    ),
    Case("token expires on the commit", lambda hub: [Fault("POST", COMMIT, action=lambda: expire(hub))], "expired"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_after_a_fault_readers_see_a_complete_state_and_the_next_run_completes(pusher: Pusher, case: Case) -> None:
    hub, options = pusher.hub, PushOptions(ID, tag="v2")
    pusher.push("28")
    repo = hub.store.repos[KIND, ID]
    old, plan = pusher.files(), pusher.plan("64")
    new = old | content_of(plan)
    faults = [hub.faults.add(fault) for fault in case.faults(hub)]
    hub.log.clear()
    try:
        pusher.push("64", options)
        outcome = "done"
    except MedMNISTError as error:
        outcome = str(error)
        assert "\n" not in outcome and hub.token.secret not in outcome
    assert all(fault.hits for fault in faults)
    assert outcome == "done" if case.ends == "done" else re.search(case.ends, outcome)
    hub.faults.clear()
    hub.token.expired = False

    assert pusher.files() in ([new] if outcome == "done" else [old, new])
    check_complete(pusher)
    assert all(pusher.files(tag) == new for tag in repo.tags)

    missing = {
        file.sha256: file.size
        for path, file in plan.files.items()
        if path.endswith(".parquet") and file.sha256 not in repo.large
    }
    hub.log.clear()
    pushed = pusher.push("64", options)
    assert hub.log.received("PUT", LARGE) == sum(missing.values())
    assert pusher.files() == new and repo.tags == {"v2": pushed.sha}
    assert len(pusher.titles()) == 3


class TestRivals:
    """Another push commits between our comparison and our commit."""

    def during_commit(self, pusher: Pusher, action: Callable[[], object]) -> None:
        pusher.hub.faults.add(Fault("POST", COMMIT, action=action))

    def test_a_config_that_a_rival_adds_stays(self, pusher: Pusher) -> None:
        rival = Pusher(pusher.hub, pusher.dists)
        self.during_commit(pusher, lambda: rival.push("28"))
        assert pusher.push("64").committed
        check_complete(pusher)
        assert pusher.plan("both").empty and len(pusher.titles()) == 3

    def test_the_same_push_twice_is_one_commit(self, pusher: Pusher) -> None:
        rival = Pusher(pusher.hub, pusher.dists)
        self.during_commit(pusher, lambda: rival.push("28"))
        assert not pusher.push("28").committed
        check_complete(pusher)
        assert len(pusher.titles()) == 2

    def test_a_config_that_a_rival_changes_is_not_overwritten(self, pusher: Pusher) -> None:
        rival = Pusher(pusher.hub, pusher.dists)
        self.during_commit(pusher, lambda: rival.push("other"))
        with pytest.raises(HubError, match=r"another push has changed 28 of org/pathmnist meanwhile"):
            pusher.push("28")
        assert pusher.plan("other").empty
        check_complete(pusher)

    def test_pruning_removes_only_files_in_the_plan(self, pusher: Pusher) -> None:
        rival = Pusher(pusher.hub, pusher.dists)
        self.during_commit(pusher, lambda: rival.push("64"))
        with pytest.raises(HubError, match=r"has added 64/\S* to org/pathmnist meanwhile"):
            pusher.push("28", PushOptions(ID, prune=True))
        assert pusher.plan("64").empty
        check_complete(pusher)


def test_a_collection_is_created_once_and_completed(pusher: Pusher) -> None:
    names = [f"org/{name}" for name in ("one", "two", "three")]
    for name in names:
        pusher.hub.store.create(KIND, name)
    pusher.hub.faults.add(Fault("POST", "/items", skip=1, status=500, after=True))
    slug = add_to_collection(pusher.api, "Sets", "org", names[:2], private=False)
    assert add_to_collection(pusher.api, "Sets", "org", names, private=False) == slug
    assert [item.item_id for item in pusher.api.get_collection(slug).items] == names
