"""A plan lists the action for each file, and refuses invalid pushes."""

import pytest

from medmnist_hf.errors import HubError
from medmnist_hf.hub.files import PushFile
from medmnist_hf.hub.plan import Change, FilePlan, changes_of, check_plan, tags_of
from medmnist_hf.hub.tree import read_tree
from tests.fixtures.hub.server import HubServer

ID = "org/thing"


@pytest.fixture(params=["dataset", "model", "space"], name="repo_type")
def repo_type_fixture(request: pytest.FixtureRequest, hub: HubServer) -> str:
    """The type of an existing repository."""
    repo_type = str(request.param)
    hub.store.create(repo_type, ID)
    hub.store.write(repo_type, ID, {"same.txt": b"1", "changed.txt": b"2", "gone.txt": b"333"})
    return repo_type


def plan_of(hub: HubServer, repo_type: str, repo_id: str = ID) -> FilePlan:
    """Return a plan with one file for each action."""
    state = read_tree(hub.api(), repo_id, repo_type=repo_type, missing_ok=True)
    texts = {"same.txt": b"1", "changed.txt": b"22", "some/new.txt": b"4444"}
    files = {path: PushFile.from_bytes(content) for path, content in texts.items()}
    removals = [Change("gone.txt", "removed", state.files["gone.txt"].size)] if state.exists else []
    changes = sorted((*changes_of(files, state.files), *removals), key=lambda change: change.path)
    return FilePlan(state, tuple(changes), files)


def test_the_action_for_each_file(hub: HubServer, repo_type: str) -> None:
    plan = plan_of(hub, repo_type)
    assert {change.path: change.action for change in plan.changes} == {
        "same.txt": "same",
        "changed.txt": "changed",
        "some/new.txt": "new",
        "gone.txt": "removed",
    }
    assert plan.paths("new", "removed") == ["gone.txt", "some/new.txt"]
    assert plan.count("new") == (1, 4) and plan.count("removed") == (1, 3) and not plan.empty
    kept = tuple(change for change in plan.changes if change.action == "same")
    assert FilePlan(plan.state, kept, plan.files).empty


def test_the_lines_of_a_plan(hub: HubServer) -> None:
    hub.store.create("model", ID)
    hub.store.write("model", ID, {"same.txt": b"1", "changed.txt": b"2", "gone.txt": b"333"})
    plan = plan_of(hub, "model")
    assert list(plan.lines()) == [
        f"org/thing (at {plan.state.sha[:12]})",
        "changed  changed.txt              2",
        "removed  gone.txt                 3",
        "new      some/new.txt             4",
        "1 new (4 bytes), 1 changed (2 bytes), 1 same (1 bytes), 1 removed (3 bytes)",
    ]
    assert next(iter(plan_of(hub, "model", "org/none").lines())) == "org/none (does not exist yet)"


def test_a_private_push_to_a_public_repository_is_refused(hub: HubServer, repo_type: str) -> None:
    plan = plan_of(hub, repo_type)
    check_plan(hub.api(), plan, private=False, tag=None)
    with pytest.raises(HubError, match="org/thing is public: make it private in its settings first, or drop"):
        check_plan(hub.api(), plan, private=True, tag=None)
    hub.store.repos[repo_type, ID].private = True
    check_plan(hub.api(), plan_of(hub, repo_type), private=True, tag=None)
    check_plan(hub.api(), plan_of(hub, repo_type, "org/none"), private=True, tag="v1")


def test_a_tag_does_not_move(hub: HubServer, repo_type: str) -> None:
    plan = plan_of(hub, repo_type)
    hub.api().create_tag(ID, tag="v1", repo_type=repo_type)
    assert tags_of(hub.api(), ID, repo_type) == {"v1": plan.state.sha}
    check_plan(hub.api(), plan, private=False, tag="v2")
    check_plan(hub.api(), FilePlan(plan.state, (), {}), private=False, tag="v1")
    with pytest.raises(HubError, match=f"already has the tag v1 at {plan.state.sha[:12]}, and tags never move"):
        check_plan(hub.api(), plan, private=False, tag="v1")
