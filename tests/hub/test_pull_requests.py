"""Open pull requests listed with the real client: only the user's own, against a branch, with the same content."""

from medmnist_hf.hub.files import PushFile
from medmnist_hf.hub.pull_requests import open_pull_requests
from tests.fixtures.hub.server import HubServer

KIND, ID = "dataset", "org/pathmnist"
PUSHED = {"README.md": PushFile.from_bytes(b"# new\n")}


def propose(hub: HubServer, user: str, files: dict[str, bytes], base: str = "main") -> int:
    """Open a pull request that changes files and return its number."""
    api = hub.api(hub.access.token(user))
    discussion = api.create_discussion(ID, "Mine", repo_type=KIND, pull_request=True)
    hub.store.write(KIND, ID, dict(files), revision=f"refs/pr/{discussion.num}")
    hub.store.repos[KIND, ID].discussions[discussion.num].base = base
    return discussion.num


def test_which_pull_requests_are_found_and_which_are_the_same(hub: HubServer) -> None:
    repo = hub.store.create(KIND, ID)
    hub.store.write(KIND, ID, {"old.txt": b"1", "README.md": b"# old\n"})
    hub.social.discussions_page = 2
    hub.api().create_discussion(ID, "A question", repo_type=KIND)
    full = {"README.md": b"# new\n"}
    numbers = [
        propose(hub, "alice", {"README.md": b"# another\n"}),
        propose(hub, "mallory", full),
        propose(hub, "alice", full, base="next"),
        propose(hub, "alice", full),
        propose(hub, "alice", full),
    ]
    repo.discussions[numbers[3]].status = "closed"
    repo.discussions[numbers[4]].status = "open"
    requests = open_pull_requests(hub.api(), ID, "main", PUSHED, [])
    assert [(request.url, request.revision, request.same) for request in requests] == [
        (f"{hub.url}/datasets/{ID}/discussions/{numbers[4]}", f"refs/pr/{numbers[4]}", True),
        (f"{hub.url}/datasets/{ID}/discussions/{numbers[0]}", f"refs/pr/{numbers[0]}", False),
    ]
    assert not any(request.same for request in open_pull_requests(hub.api(), ID, "main", PUSHED, ["old.txt"]))
