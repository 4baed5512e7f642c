"""Open pull requests, as the real client lists them: only one's own, against that branch, with just that content."""

from medmnist_hf.hub.files import PushFile
from medmnist_hf.hub.pull_requests import open_pull_requests
from tests.fixtures.hub.server import HubServer

KIND, ID = "dataset", "org/pathmnist"
WANTED = {"README.md": PushFile.from_bytes(b"# new\n")}


def propose(hub: HubServer, user: str, files: dict[str, bytes], base: str = "main") -> int:
    """A pull request that changes files; its number."""
    api = hub.api(hub.access.token(user))
    made = api.create_discussion(ID, "Mine", repo_type=KIND, pull_request=True)
    hub.store.write(KIND, ID, dict(files), revision=f"refs/pr/{made.num}")
    hub.store.repos[KIND, ID].discussions[made.num].base = base
    return made.num


def test_what_counts_as_the_same(hub: HubServer) -> None:
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
    found = open_pull_requests(hub.api(), ID, "main", WANTED, [])
    assert [(one.url, one.revision, one.same) for one in found] == [
        (f"{hub.url}/datasets/{ID}/discussions/{numbers[4]}", f"refs/pr/{numbers[4]}", True),
        (f"{hub.url}/datasets/{ID}/discussions/{numbers[0]}", f"refs/pr/{numbers[0]}", False),
    ]
    assert not any(one.same for one in open_pull_requests(hub.api(), ID, "main", WANTED, ["old.txt"]))
