"""The metric's module on the loopback Hub: pushed once, checked, tagged, and nothing else touched."""

import pytest

from medmnist_hf.errors import BuildError, HubError
from medmnist_hf.evaluate_module import FOLDER
from medmnist_hf.evaluate_module.push import plan_metric, push_metric
from medmnist_hf.hub import client
from medmnist_hf.hub.dataset_push import Pushed
from tests.fixtures.hub.server import Fault, HubServer

KIND, ID = "space", "org/medmnist"
FILES = {path.name: path.read_bytes() for path in FOLDER.iterdir() if path.is_file()}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_WAIT", 0.01)


def push(hub: HubServer, tag: str | None = None, *, private: bool = False) -> Pushed:
    plan = plan_metric(hub.api(), ID, private=private, tag=tag)
    return push_metric(hub.api(), plan, private=private, tag=tag)


def test_a_first_push_then_an_unchanged_one(hub: HubServer) -> None:
    plan = plan_metric(hub.api(), ID)
    assert set(plan.paths("new")) == set(plan.files) == set(FILES) and not hub.store.repos
    first = push(hub, "v1", private=True)
    held = hub.store.files(KIND, ID)
    assert held.pop(".gitattributes") and held == FILES
    repo = hub.store.repos[KIND, ID]
    assert repo.private and repo.tags == {"v1": first.sha} and first.committed
    hub.log.clear()
    again = push(hub, "v1")
    assert (again.sha, again.committed) == (first.sha, False)
    assert not hub.log.find("POST") and len(repo.commits) == 2


def test_a_change_goes_up_alone_and_other_files_stay(hub: HubServer) -> None:
    push(hub, "v1")
    hub.store.write(KIND, ID, {"app.py": b"old", "notes.txt": b"mine"})
    plan = plan_metric(hub.api(), ID)
    assert plan.paths("changed") == ["app.py"] and not plan.paths("new", "removed")
    assert [line.split()[0] for line in plan.lines()] == [ID, "changed", "0"]
    with pytest.raises(HubError, match=r"has a tag v1 at .* already"):
        plan_metric(hub.api(), ID, tag="v1")
    push(hub)
    held = hub.store.files(KIND, ID)
    assert held.pop(".gitattributes") and held == FILES | {"notes.txt": b"mine"}


def test_a_rival_is_not_overwritten(hub: HubServer) -> None:
    push(hub)
    hub.store.write(KIND, ID, {"app.py": b"old"})
    plan = plan_metric(hub.api(), ID)
    hub.store.write(KIND, ID, {"app.py": b"a rival's"})
    with pytest.raises(HubError, match="the repository has changed meanwhile: run again"):
        push_metric(hub.api(), plan)
    assert hub.store.files(KIND, ID)["app.py"] == b"a rival's"


def test_what_is_up_there_is_checked_before_it_is_tagged(hub: HubServer) -> None:
    first = push(hub)
    plan = plan_metric(hub.api(), ID, tag="v1")
    hub.faults.add(Fault("GET", "/tree/", garble=lambda body: body.replace(b"medmnist.py", b"else.py")))
    with pytest.raises(HubError, match=r"has another medmnist\.py than was pushed"):
        push_metric(hub.api(), plan, tag="v1")
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
def test_a_busy_hub_is_asked_again(hub: HubServer, fault: Fault) -> None:
    hit = hub.faults.add(fault)
    done = push(hub, "v1")
    repo = hub.store.repos[KIND, ID]
    assert hit.hits and repo.tags == {"v1": done.sha} and len(repo.commits) == 2


def test_what_must_not_be(hub: HubServer) -> None:
    for name in ("org/metric", "medmnist", "/medmnist", "a/b/medmnist"):
        with pytest.raises(BuildError, match="name it NAMESPACE/medmnist"):
            plan_metric(hub.api(), name)
    plan = plan_metric(hub.api(anonymous=True), ID)
    for api, match in ((hub.api(anonymous=True), "no token"), (hub.api(hub.read_token), "write access")):
        with pytest.raises(HubError, match=match) as caught:
            push_metric(api, plan)
        assert "\n" not in str(caught.value) and "hf_" not in str(caught.value)
    assert not hub.store.repos
    push(hub)
    with pytest.raises(HubError, match="is public"):
        plan_metric(hub.api(), ID, private=True)
