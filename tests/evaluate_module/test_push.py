"""Pushing the metric's module to the loopback Hub: committed once, checked, tagged, other files kept."""

import shutil
from pathlib import Path

import pytest

from medmnist_hf.errors import BuildError, HubError
from medmnist_hf.evaluate_module import FOLDER
from medmnist_hf.evaluate_module import push as module
from medmnist_hf.evaluate_module.push import plan_metric, push_metric
from medmnist_hf.hub import client
from medmnist_hf.hub.commit import CommitOptions, Pushed
from tests.fixtures.hub.server import Fault, HubServer

KIND, ID = "space", "org/medmnist"
OPTIONS = CommitOptions(ID)
FILES = {path.name: path.read_bytes() for path in FOLDER.iterdir() if path.is_file()}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_WAIT", 0.01)


def push(hub: HubServer, tag: str | None = None, *, private: bool = False) -> Pushed:
    options = CommitOptions(ID, tag=tag, private=private)
    return push_metric(hub.api(), plan_metric(hub.api(), options), options)


def test_a_first_push_then_an_unchanged_one(hub: HubServer) -> None:
    plan = plan_metric(hub.api(), OPTIONS)
    assert set(plan.paths("new")) == set(plan.files) == set(FILES) and not hub.store.repos
    first = push(hub, "v1", private=True)
    files = hub.store.files(KIND, ID)
    assert files.pop(".gitattributes") and files == FILES
    repo = hub.store.repos[KIND, ID]
    assert repo.private and repo.tags == {"v1": first.sha} and first.committed
    hub.log.clear()
    again = push(hub, "v1")
    assert (again.sha, again.committed) == (first.sha, False)
    assert not hub.log.find("POST") and len(repo.commits) == 2


def test_only_changes_are_pushed_and_other_files_kept(hub: HubServer) -> None:
    push(hub, "v1")
    hub.store.write(KIND, ID, {"page.js": b"old", "notes.txt": b"mine"})
    plan = plan_metric(hub.api(), OPTIONS)
    assert plan.paths("changed") == ["page.js"] and not plan.paths("new", "removed")
    assert [line.split()[0] for line in plan.lines()] == [ID, "changed", "0"]
    with pytest.raises(HubError, match=r"already has the tag v1 at "):
        plan_metric(hub.api(), CommitOptions(ID, tag="v1"))
    push(hub)
    files = hub.store.files(KIND, ID)
    assert files.pop(".gitattributes") and files == FILES | {"notes.txt": b"mine"}


def test_a_rival_is_not_overwritten(hub: HubServer) -> None:
    push(hub)
    hub.store.write(KIND, ID, {"page.js": b"old"})
    plan = plan_metric(hub.api(), OPTIONS)
    hub.store.write(KIND, ID, {"page.js": b"a rival's"})
    with pytest.raises(HubError, match=r"another push has changed page\.js of org/medmnist meanwhile: run again"):
        push_metric(hub.api(), plan, OPTIONS)
    assert hub.store.files(KIND, ID)["page.js"] == b"a rival's"


def test_files_that_a_rival_adds_during_the_commit_are_kept(hub: HubServer) -> None:
    push(hub)
    hub.store.write(KIND, ID, {"page.js": b"old"})
    rival_files = {"notes.txt": b"a rival's"}
    hub.faults.add(Fault("POST", "/commit/", action=lambda: hub.store.write(KIND, ID, rival_files)))
    assert push(hub, "v1").committed
    files = hub.store.files(KIND, ID, "v1")
    assert files.pop(".gitattributes") and files == FILES | rival_files


def test_the_initial_card_of_the_hub_is_not_a_rival_but_another_push_is(hub: HubServer) -> None:
    """Both pushes are planned before the Space exists."""
    plan = plan_metric(hub.api(), OPTIONS)
    hub.api().create_repo(ID, repo_type=KIND, space_sdk="static")
    hub.store.write(KIND, ID, {"page.js": b"a rival's"})
    with pytest.raises(HubError, match=r"another push has changed page\.js of org/medmnist meanwhile: run again"):
        push_metric(hub.api(), plan, OPTIONS)
    hub.store.write(KIND, ID, {"page.js": FILES["page.js"]})
    assert push_metric(hub.api(), plan, OPTIONS).committed


def test_the_pushed_files_are_checked_before_tagging(hub: HubServer) -> None:
    first = push(hub)
    options = CommitOptions(ID, tag="v1")
    plan = plan_metric(hub.api(), options)
    hub.faults.add(Fault("GET", "/tree/", garble=lambda body: body.replace(b"medmnist.py", b"else.py")))
    with pytest.raises(HubError, match=r"medmnist\.py of \S+ differs from the pushed file"):
        push_metric(hub.api(), plan, options)
    repo = hub.store.repos[KIND, ID]
    assert not repo.tags and first.sha == repo.branches["main"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("POST", "/repos/create", status=500, after=True),
        Fault("POST", "/commit/", status=503),
        Fault("POST", "/commit/", status=504, after=True),
        Fault("GET", "/revision/", status=503),
        Fault("POST", "/tag/", lose_answer=True, after=True),
    ],
    ids=["create", "commit", "answer", "read", "tag"],
)
def test_requests_to_a_busy_hub_are_retried(hub: HubServer, fault: Fault) -> None:
    hit = hub.faults.add(fault)
    pushed = push(hub, "v1")
    repo = hub.store.repos[KIND, ID]
    assert hit.hits and repo.tags == {"v1": pushed.sha} and len(repo.commits) == 2


def test_rejected_pushes(hub: HubServer) -> None:
    for name in ("org/metric", "medmnist", "/medmnist", "a/b/medmnist"):
        with pytest.raises(HubError, match=r"name it NAMESPACE/medmnist, so that evaluate\.load can find it"):
            plan_metric(hub.api(), CommitOptions(name))
    plan = plan_metric(hub.api(anonymous=True), OPTIONS)
    for api, match in ((hub.api(anonymous=True), "no token"), (hub.api(hub.read_token), "write access")):
        with pytest.raises(HubError, match=match) as caught:
            push_metric(api, plan, OPTIONS)
        assert "\n" not in str(caught.value) and "hf_" not in str(caught.value)
    assert not hub.store.repos
    push(hub)
    with pytest.raises(HubError, match="is public"):
        plan_metric(hub.api(), CommitOptions(ID, private=True))


def test_a_link_in_the_folder_of_the_module_is_rejected(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / FOLDER.name, ignore=shutil.ignore_patterns("__pycache__")))
    (folder / "notes.md").symlink_to("/etc/hostname")
    monkeypatch.setattr(module, "FOLDER", folder)
    with pytest.raises(BuildError, match=r"cannot push .*notes\.md \(it is a link to /etc/hostname"):
        plan_metric(hub.api(), OPTIONS)
