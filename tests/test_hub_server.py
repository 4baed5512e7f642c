"""The loopback Hub of the tests, proved with the real clients: what a push or a reader relies on holds there too."""

import base64
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    constants,
    hf_hub_download,
    list_collections,
    snapshot_download,
)
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.fixtures.hub import Fault, HubServer, hub_fixture  # noqa: F401

ID = "org/tiny"
CARD = """---
license: cc-by-4.0
configs:
- config_name: "28"
  default: true
  data_files:
  - split: train
    path: 28/train-*
  - split: test
    path: 28/test-*
- config_name: "64"
  data_files:
  - split: train
    path: 64/train-*
---
# Tiny
"""
PUSH = """
import sys
from huggingface_hub import HfApi
api = HfApi()
api.create_repo(sys.argv[2], repo_type="dataset", exist_ok=True)
print(api.upload_folder(repo_id=sys.argv[2], repo_type="dataset", folder_path=sys.argv[1]).oid)
"""
PULL = """
import sys
from huggingface_hub import snapshot_download
print(snapshot_download(sys.argv[1], repo_type="dataset"))
"""
FAILED_PUSH = f"try:\n    exec({PUSH!r})\nexcept Exception as error:\n    print(type(error).__name__)\n"


def add(path: str, content: bytes | str) -> CommitOperationAdd:
    return CommitOperationAdd(path, content.encode() if isinstance(content, str) else content)


def folder_of(root: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def content_of(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A README and two shards that no compression makes smaller."""
    shards: dict[str, bytes | str] = {f"28/{split}-0.parquet": os.urandom(250_000) for split in ("train", "test")}
    return folder_of(tmp_path / "dist", {"README.md": CARD, **shards})


def held(hub: HubServer, revision: str = "main") -> dict[str, bytes]:
    files = hub.store.files("dataset", ID, revision)
    del files[".gitattributes"]
    return files


def status_of(call: Callable[[], object]) -> int:
    with pytest.raises(HfHubHTTPError) as caught:
        call()
    return caught.value.response.status_code


class TestFilesAndCommits:
    def test_a_folder_goes_up_in_one_commit_and_an_unchanged_one_in_none(self, hub: HubServer, folder: Path) -> None:
        api = hub.api()
        hub.uploads.chunk_size = 100_000
        api.create_repo(ID, repo_type="dataset")
        done = api.upload_folder(repo_id=ID, repo_type="dataset", folder_path=folder, commit_message="All of it")
        assert held(hub) == content_of(folder)
        assert [commit.title for commit in api.list_repo_commits(ID, repo_type="dataset")] == [
            "All of it",
            "initial commit",
        ]
        parts = hub.log.find("PUT", "/part/")
        assert sorted(part.received for part in parts) == [50_000] * 2 + [100_000] * 4
        hub.log.clear()
        again = api.upload_folder(repo_id=ID, repo_type="dataset", folder_path=folder)
        assert again.oid == done.oid
        assert not hub.log.find("PUT") and not hub.log.find("POST", "/commit/")

    def test_a_small_object_goes_in_one_piece(self, hub: HubServer) -> None:
        api = hub.api()
        api.create_repo(ID, repo_type="dataset")
        api.create_commit(ID, [add("a.parquet", b"PAR1")], commit_message="a", repo_type="dataset")
        (put,) = hub.log.find("PUT")
        assert put.received == 4 and "/part/" not in put.target

    def test_a_revision_returns_what_it_held(self, hub: HubServer) -> None:
        api = hub.api()
        api.create_repo(ID, repo_type="dataset")
        first = api.create_commit(ID, [add("a.txt", "1")], commit_message="1", repo_type="dataset").oid
        api.create_tag(ID, tag="v1", repo_type="dataset")
        api.create_branch(ID, branch="next/one", repo_type="dataset")
        two = [add("a.txt", "2"), add("b/c.txt", "c")]
        api.create_commit(ID, two, commit_message="2", repo_type="dataset", revision="next/one")
        assert held(hub) == {"a.txt": b"1"}
        assert held(hub, "next/one") == {"a.txt": b"2", "b/c.txt": b"c"}
        gone = [CommitOperationDelete("b/")]
        api.create_commit(ID, gone, commit_message="3", repo_type="dataset", revision="next/one")
        assert held(hub, "next/one") == {"a.txt": b"2"}
        for revision, text in (("v1", "1"), (first, "1"), (first[:7], "1"), ("next/one", "2")):
            path = hf_hub_download(ID, "a.txt", repo_type="dataset", revision=revision)
            assert Path(path).read_text() == text
            assert api.dataset_info(ID, revision=revision).sha == hub.store.repos["dataset", ID].resolve(revision).sha
        refs = api.list_repo_refs(ID, repo_type="dataset")
        assert {ref.name for ref in refs.branches} == {"main", "next/one"}
        assert [(ref.name, ref.target_commit) for ref in refs.tags] == [("v1", first)]
        api.delete_tag(ID, tag="v1", repo_type="dataset")
        api.delete_branch(ID, branch="next/one", repo_type="dataset")
        for revision in ("v1", "next/one", "f" * 40):
            with pytest.raises(RevisionNotFoundError):
                api.dataset_info(ID, revision=revision)

    def test_refs_that_exist_are_kept(self, hub: HubServer) -> None:
        api = hub.api()
        api.create_repo(ID, repo_type="dataset")
        api.create_tag(ID, tag="v1", repo_type="dataset")
        at = hub.store.repos["dataset", ID].tags["v1"]
        api.create_commit(ID, [add("a", "1")], commit_message="1", repo_type="dataset")
        assert status_of(lambda: api.create_tag(ID, tag="v1", repo_type="dataset")) == 409
        api.create_tag(ID, tag="v1", repo_type="dataset", exist_ok=True)
        assert hub.store.repos["dataset", ID].tags["v1"] == at
        assert status_of(lambda: api.create_branch(ID, branch="main", repo_type="dataset")) == 409
        assert status_of(lambda: api.delete_branch(ID, branch="main", repo_type="dataset")) == 403

    def test_a_stale_parent_is_refused_and_changes_nothing(self, hub: HubServer) -> None:
        api = hub.api()
        api.create_repo(ID, repo_type="dataset")
        parent = api.dataset_info(ID).sha
        one = api.create_commit(ID, [add("a", "1")], commit_message="1", repo_type="dataset", parent_commit=parent)

        def stale() -> None:
            api.create_commit(ID, [add("a", "2")], commit_message="2", repo_type="dataset", parent_commit=parent)

        assert status_of(stale) == 412
        assert held(hub) == {"a": b"1"} and api.dataset_info(ID).sha == one.oid

    def test_listings(self, hub: HubServer) -> None:
        api = hub.api()
        api.create_repo(ID, repo_type="dataset")
        files = [add(f"d{n}/f.parquet", bytes([n])) for n in range(5)]
        sha = api.create_commit(ID, files, commit_message="1", repo_type="dataset").oid
        hub.repos.tree_page = 2
        entries = {entry.path: entry for entry in api.list_repo_tree(ID, recursive=True, repo_type="dataset")}
        assert len(entries) == 11
        assert len(hub.log.find("GET", "/tree/")) == 6
        shard = entries["d3/f.parquet"]
        assert (shard.lfs.sha256, shard.size) == (hashlib.sha256(b"\3").hexdigest(), 1)  # type: ignore[union-attr]
        top = [entry.path for entry in api.list_repo_tree(ID, repo_type="dataset", expand=True)]
        assert top == [".gitattributes", "d0", "d1", "d2", "d3", "d4"]
        paths = ["d1/f.parquet", "d2", "nothing"]
        found = api.get_paths_info(ID, paths, repo_type="dataset", expand=True)
        assert [(one.path, one.last_commit.oid) for one in found if one.last_commit] == [(p, sha) for p in paths[:2]]
        with pytest.raises(EntryNotFoundError):
            list(api.list_repo_tree(ID, "nothing", repo_type="dataset"))
        siblings = api.dataset_info(ID, files_metadata=True).siblings or []
        assert {one.rfilename: one.size for one in siblings}["d3/f.parquet"] == 1

    def test_large_objects_are_checked(self, hub: HubServer) -> None:
        """What a client claims about an object is believed only when the bytes bear it out."""
        api = hub.api()
        api.create_repo(ID, repo_type="dataset")
        client = httpx2.Client(headers={"Authorization": f"Bearer {hub.token.secret}"}, trust_env=False)
        sha256 = hashlib.sha256(b"good").hexdigest()
        batch = f"{hub.url}/datasets/{ID}.git/info/lfs/objects/batch"
        asked = {"operation": "upload", "objects": [{"oid": sha256, "size": 4}]}
        href = client.post(batch, json=asked).json()["objects"][0]["actions"]["upload"]["href"]
        assert client.put(href, content=b"evil").status_code == 400
        lines = [
            {"key": "header", "value": {"summary": "s"}},
            {"key": "lfsFile", "value": {"path": "a.parquet", "algo": "sha256", "oid": sha256, "size": 4}},
        ]
        commit = f"{hub.url}/api/datasets/{ID}/commit/main"
        refused = client.post(commit, content="\n".join(map(json.dumps, lines)))
        assert refused.status_code == 400 and held(hub) == {}
        lines[1] = {"key": "file", "value": {"path": "a.parquet", "content": "AAAA"}}
        assert client.post(commit, content="\n".join(map(json.dumps, lines))).status_code == 400
        assert client.put(href, content=b"good").status_code == 200
        assert "actions" not in client.post(batch, json=asked).json()["objects"][0]
        assert client.put(href, content=b"good").status_code == 200

    def test_a_repository_moves_hides_and_goes(self, hub: HubServer) -> None:
        api = hub.api()
        for kind in ("dataset", "model", "space"):
            api.create_repo(ID, repo_type=kind, space_sdk="static" if kind == "space" else None)
            api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=ID, repo_type=kind)
            assert Path(hf_hub_download(ID, "x", repo_type=kind)).read_bytes() == b"x"
        assert status_of(lambda: api.create_repo(ID, repo_type="dataset")) == 409
        api.move_repo(ID, "alice/tiny", repo_type="dataset")
        assert api.dataset_info(ID).id == "alice/tiny"
        api.update_repo_settings("alice/tiny", private=True, repo_type="dataset")
        assert api.dataset_info("alice/tiny").private
        api.super_squash_history("alice/tiny", repo_type="dataset")
        assert len(api.list_repo_commits("alice/tiny", repo_type="dataset")) == 1
        api.delete_repo("alice/tiny", repo_type="dataset")
        with pytest.raises(RepositoryNotFoundError):
            api.dataset_info("alice/tiny")
        assert api.model_info(ID).id == ID


class TestWhoMayDoWhat:
    def test_a_private_repository_is_not_found_by_others(self, hub: HubServer) -> None:
        hub.api().create_repo(ID, repo_type="dataset", private=True)
        hub.store.write("dataset", ID, {"a": b"1"})
        calls: tuple[Callable[[HfApi], object], ...] = (
            lambda api: api.dataset_info(ID),
            lambda api: list(api.list_repo_tree(ID, repo_type="dataset")),
            lambda api: api.hf_hub_download(ID, "a", repo_type="dataset"),
            lambda api: api.upload_file(path_or_fileobj=b"2", path_in_repo="a", repo_id=ID, repo_type="dataset"),
        )
        for stranger in (hub.api(anonymous=True), hub.api(hub.access.token("mallory"))):
            for call in calls:
                with pytest.raises(RepositoryNotFoundError) as caught:
                    call(stranger)
                assert caught.value.response.status_code == 404
        for token in (hub.read_token, hub.access.token("bob", "read")):
            assert hub.api(token).dataset_info(ID).private
        assert held(hub) == {"a": b"1"}

    def test_a_read_token_writes_nothing(self, hub: HubServer) -> None:
        api = hub.api()
        api.create_repo(ID, repo_type="dataset")
        reader = hub.api(hub.read_token)
        kind = "dataset"
        for call in (
            lambda: reader.create_repo("org/other", repo_type=kind),
            lambda: reader.upload_file(path_or_fileobj=b"2", path_in_repo="a", repo_id=ID, repo_type=kind),
            lambda: reader.create_tag(ID, tag="v1", repo_type=kind),
            lambda: reader.create_branch(ID, branch="b", repo_type=kind),
            lambda: reader.create_pull_request(ID, "Please", repo_type=kind),
            lambda: reader.create_collection("Tiny", namespace="org"),
            lambda: reader.update_repo_settings(ID, private=True, repo_type=kind),
            lambda: reader.delete_repo(ID, repo_type=kind),
        ):
            assert status_of(call) == 403
        assert held(hub) == {} and list(hub.store.repos) == [("dataset", ID)]
        assert not hub.store.repos["dataset", ID].tags

    def test_an_outsider_may_only_propose(self, hub: HubServer) -> None:
        hub.api().create_repo(ID, repo_type="dataset")
        outsider = hub.api(hub.access.token("mallory"))
        change = [add("a", "1")]
        assert status_of(lambda: outsider.create_commit(ID, change, commit_message="c", repo_type="dataset")) == 403
        assert status_of(lambda: outsider.create_repo("org/other")) == 403
        outsider.create_commit(ID, [add("a", "1")], commit_message="c", repo_type="dataset", create_pr=True)
        assert held(hub) == {} and held(hub, "refs/pr/1") == {"a": b"1"}
        assert status_of(lambda: outsider.merge_pull_request(ID, 1, repo_type="dataset")) == 403

    def test_unknown_and_expired_tokens(self, hub: HubServer) -> None:
        api = hub.api()
        assert api.whoami()["name"] == "alice"
        assert [one["name"] for one in api.whoami()["orgs"]] == ["org"]
        api.create_repo(ID, repo_type="dataset")
        hub.token.expired = True
        assert status_of(api.whoami) == 401
        assert status_of(lambda: api.dataset_info(ID)) == 401
        assert hub.api(anonymous=True).dataset_info(ID).id == ID
        hub.token.expired = False
        del hub.access.tokens[hub.token.secret]
        assert status_of(lambda: api.dataset_info(ID)) == 401


class TestCards:
    @pytest.mark.parametrize(
        "head", ["a: [", "- 1", "configs:\n- config_name: 28", "configs: x", 'license: "mit\nconfigs: []']
    )
    def test_a_bad_card_is_refused_before_and_in_the_commit(self, hub: HubServer, head: str) -> None:
        api = hub.api()
        api.create_repo(ID, repo_type="dataset")
        text = f"---\n{head}\n---\n"
        with pytest.raises(ValueError, match=r"Invalid metadata in README.md"):
            api.upload_file(path_or_fileobj=text.encode(), path_in_repo="README.md", repo_id=ID, repo_type="dataset")
        api.upload_file(path_or_fileobj=text.encode(), path_in_repo="r.md", repo_id=ID, repo_type="dataset")
        lines = [
            {"key": "header", "value": {"summary": "s"}},
            {"key": "file", "value": {"path": "README.md", "content": base64.b64encode(text.encode()).decode()}},
        ]
        answer = httpx2.post(
            f"{hub.url}/api/datasets/{ID}/commit/main",
            content="\n".join(map(json.dumps, lines)),
            headers={"Authorization": f"Bearer {hub.token.secret}"},
            trust_env=False,
        )
        assert answer.status_code == 400 and "README.md" not in held(hub)

    def test_a_good_card_gives_data_and_tags(self, hub: HubServer) -> None:
        api = hub.api()
        api.create_repo(ID, repo_type="dataset")
        api.upload_file(path_or_fileobj=CARD.encode(), path_in_repo="README.md", repo_id=ID, repo_type="dataset")
        info = api.dataset_info(ID)
        assert info.card_data is not None and info.card_data["license"] == "cc-by-4.0"
        assert "license:cc-by-4.0" in (info.tags or [])
        with pytest.warns(UserWarning, match="empty or missing"):
            api.upload_file(path_or_fileobj=b"hi", path_in_repo="README.md", repo_id=ID, repo_type="dataset")


class TestAroundRepositories:
    def test_pull_requests(self, hub: HubServer, folder: Path) -> None:
        api = hub.api()
        api.create_repo(ID, repo_type="dataset")
        api.upload_folder(repo_id=ID, repo_type="dataset", folder_path=folder, create_pr=True)
        assert held(hub) == {}
        assert held(hub, "refs/pr/1") == content_of(folder)
        refs = api.list_repo_refs(ID, repo_type="dataset", include_pull_requests=True)
        assert [ref.ref for ref in refs.pull_requests or []] == ["refs/pr/1"]
        hub.store.write("dataset", ID, {"else": b"1"})
        api.merge_pull_request(ID, 1, repo_type="dataset")
        assert held(hub) == {**content_of(folder), "else": b"1"}
        assert api.get_discussion_details(ID, 1, repo_type="dataset").status == "merged"
        second = api.create_pull_request(ID, "Another", repo_type="dataset")
        change = [add("else", "2")]
        api.create_commit(ID, change, commit_message="c", repo_type="dataset", revision=second.git_reference)
        hub.store.write("dataset", ID, {"else": b"3"})
        assert status_of(lambda: api.merge_pull_request(ID, second.num, repo_type="dataset")) == 409
        api.change_discussion_status(ID, second.num, "closed", repo_type="dataset")
        told = {one.num: one.status for one in api.get_repo_discussions(ID, repo_type="dataset")}
        assert told == {1: "merged", 2: "closed"}

    def test_collections(self, hub: HubServer) -> None:
        api = hub.api()
        names = [f"org/tiny{n}" for n in range(6)]
        for name in names:
            api.create_repo(name, repo_type="dataset")
        made = api.create_collection("Tiny sets", namespace="org", description="Six")
        assert status_of(lambda: api.create_collection("Tiny sets", namespace="org")) == 409
        assert api.create_collection("Tiny sets", namespace="org", exists_ok=True).slug == made.slug
        for name in names:
            api.add_collection_item(made.slug, name, "dataset", note=f"note on {name}")
        assert status_of(lambda: api.add_collection_item(made.slug, names[0], "dataset")) == 409
        api.add_collection_item(made.slug, names[0], "dataset", exists_ok=True)
        assert status_of(lambda: api.add_collection_item(made.slug, "org/none", "dataset")) == 404
        items = api.get_collection(made.slug).items
        assert [item.item_id for item in items] == names and items[1].note == "note on org/tiny1"
        (listed,) = list_collections(owner="org", token=False)
        assert (listed.slug, len(listed.items)) == (made.slug, 4)
        api.update_collection_item(made.slug, items[5].item_object_id, position=0, note="first")
        api.delete_collection_item(made.slug, items[0].item_object_id)
        api.update_repo_settings(names[2], private=True, repo_type="dataset")
        shown = hub.api(anonymous=True).get_collection(made.slug).items
        assert [item.item_id for item in shown] == [names[n] for n in (5, 1, 3, 4)]
        assert api.update_collection_metadata(made.slug, description="Now five").description == "Now five"
        too_long = "x" * 151
        assert status_of(lambda: api.update_collection_metadata(made.slug, description=too_long)) == 400
        api.delete_collection(made.slug)
        assert status_of(lambda: api.get_collection(made.slug)) == 404


class TestFaults:
    @pytest.fixture
    def ready(self, hub: HubServer) -> HubServer:
        hub.store.create("dataset", ID)
        return hub

    def commit(self, hub: HubServer, parent: str | None = None) -> None:
        change = [add("a.parquet", b"x" * 1000)]
        hub.api().create_commit(ID, change, commit_message="c", repo_type="dataset", parent_commit=parent)

    def test_a_status_before_the_effect(self, ready: HubServer) -> None:
        fault = ready.faults.add(Fault("POST", "/commit/", status=500, message="no luck"))
        assert status_of(lambda: self.commit(ready)) == 500
        assert fault.spent and held(ready) == {}
        self.commit(ready)
        assert len(held(ready)) == 1

    def test_a_status_after_the_effect(self, ready: HubServer) -> None:
        ready.faults.add(Fault("POST", "/commit/", status=504, after=True))
        assert status_of(lambda: self.commit(ready)) == 504
        assert len(held(ready)) == 1

    @pytest.mark.parametrize("after", [False, True])
    def test_a_lost_answer(self, ready: HubServer, after: bool) -> None:
        ready.faults.add(Fault("POST", "/commit/", lose_answer=True, after=after))
        with pytest.raises(httpx2.RemoteProtocolError):
            self.commit(ready)
        assert len(held(ready)) == after
        assert ready.log.find("POST", "/commit/")[0].status == 0

    def test_retry_after_is_sent_and_honoured(self, ready: HubServer) -> None:
        ready.faults.add(Fault("POST", "/preupload/", status=429, headers={"Retry-After": "1"}))
        begun = time.monotonic()
        self.commit(ready)
        assert time.monotonic() - begun >= 1
        assert [seen.status for seen in ready.log.find("POST", "/preupload/")] == [429, 200]

    def test_a_connection_cut_while_a_part_is_sent(self, ready: HubServer) -> None:
        content = os.urandom(3_000_000)
        ready.faults.add(Fault("PUT", "/part/2", drop_received=70_000))
        ready.api().upload_file(path_or_fileobj=content, path_in_repo="a.bin", repo_id=ID, repo_type="dataset")
        assert held(ready) == {"a.bin": content}
        assert [seen.received for seen in ready.log.find("PUT", "/part/2")] == [70_000, 1024**2]
        assert ready.log.received("PUT") == len(content) + 70_000

    def test_a_download_cut_is_resumed_by_a_range(self, ready: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """The client keeps whole pieces of its chunk size, 10 MB unless told."""
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)
        content = os.urandom(300_000)
        ready.store.write("dataset", ID, {"a.bin": content})
        ready.faults.add(Fault("GET", "/resolve/", drop_sent=100_000))
        assert Path(hf_hub_download(ID, "a.bin", repo_type="dataset")).read_bytes() == content
        cut, rest = ready.log.find("GET", "/resolve/")
        assert (cut.sent, rest.range, rest.status) == (100_000, "bytes=100000-", 206)
        assert ready.log.sent("GET", "/resolve/") == len(content)

    def test_a_delay(self, ready: HubServer) -> None:
        ready.faults.add(Fault("GET", "/refs", delay=0.3))
        begun = time.monotonic()
        ready.api().list_repo_refs(ID, repo_type="dataset")
        assert time.monotonic() - begun >= 0.3

    def test_a_rival_between_read_and_write_makes_the_parent_stale(self, ready: HubServer) -> None:
        parent = ready.store.repos["dataset", ID].resolve("main").sha
        rival = Fault("POST", "/commit/", action=lambda: ready.store.write("dataset", ID, {"theirs": b"1"}))
        ready.faults.add(rival)
        assert status_of(lambda: self.commit(ready, parent)) == 412
        assert held(ready) == {"theirs": b"1"}

    def test_a_token_that_expires_half_way(self, ready: HubServer) -> None:
        ready.faults.add(Fault("POST", "/commit/", action=lambda: setattr(ready.token, "expired", True)))
        assert status_of(lambda: self.commit(ready)) == 401
        assert held(ready) == {}

    def test_a_garbled_answer(self, ready: HubServer) -> None:
        ready.store.write("dataset", ID, {"a.bin": b"good"})
        ready.faults.add(Fault("GET", "/resolve/", garble=lambda body: body[::-1]))
        assert Path(hf_hub_download(ID, "a.bin", repo_type="dataset")).read_bytes() == b"doog"

    def test_skip_and_times(self, ready: HubServer) -> None:
        fault = ready.faults.add(Fault("GET", "/refs", skip=1, times=2, status=418))
        url = f"{ready.url}/api/datasets/{ID}/refs"
        statuses = [httpx2.get(url, trust_env=False).status_code for _ in range(4)]
        assert statuses == [200, 418, 418, 200] and fault.hits == 2
        for_ever = ready.faults.add(Fault("GET", "/refs", times=-1, status=500))
        assert [httpx2.get(url, trust_env=False).status_code for _ in range(3)] == [500] * 3
        assert not for_ever.spent
        ready.faults.clear()
        assert httpx2.get(url, trust_env=False).status_code == 200
        assert sum(seen.fault for seen in ready.log.find("GET", "/refs")) == 5


def test_ranges(hub: HubServer) -> None:
    hub.store.create("dataset", ID)
    hub.store.write("dataset", ID, {"a b.txt": b"0123456789"})
    url = f"{hub.url}/datasets/{ID}/resolve/main/a%20b.txt"
    for asked, status, body in (
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=8-99", 206, b"89"),
        ("bytes=10-", 416, b""),
    ):
        answer = httpx2.get(url, headers={"Range": asked}, trust_env=False)
        assert (answer.status_code, answer.content) == (status, body)
    head = httpx2.head(url, trust_env=False)
    assert (head.headers["Content-Length"], head.content) == ("10", b"")
    assert head.headers["X-Repo-Commit"] == hub.store.repos["dataset", ID].resolve("main").sha


def test_a_snapshot_is_the_whole_revision(hub: HubServer, folder: Path) -> None:
    hub.store.create("dataset", ID)
    hub.store.write("dataset", ID, dict(content_of(folder)))
    got = content_of(Path(snapshot_download(ID, repo_type="dataset", token=False)))
    assert got == hub.store.files("dataset", ID)


def test_the_hub_reports_its_own_mistakes(hub: HubServer) -> None:
    answer = httpx2.post(
        f"{hub.url}/api/repos/create",
        content=b"{}",
        headers={"Authorization": f"Bearer {hub.token.secret}"},
        trust_env=False,
    )
    assert answer.status_code == 500 and "KeyError" in hub.crashes.pop()
    assert httpx2.get(f"{hub.url}/api/nothing", trust_env=False).status_code == 404


class TestXetAndLfs:
    @pytest.mark.parametrize("up", [True, False], ids=["xet-up", "lfs-up"])
    @pytest.mark.parametrize("down", [True, False], ids=["xet-down", "lfs-down"])
    def test_what_goes_up_comes_down(self, hub: HubServer, folder: Path, up: bool, down: bool) -> None:
        flat = b"".join(index.to_bytes(4, "little") for index in range(60_000))
        folder_of(folder, {"64/train-0.parquet": flat, "64/twice-0.parquet": flat, "none.parquet": b""})
        hub.python(PUSH, folder, ID, env=hub.env(xet=up))
        assert held(hub) == content_of(folder)
        assert bool(hub.log.find("POST", "/cas/v1/shards")) == up
        assert bool(hub.log.find("PUT", "^/lfs/")) == (not up)
        hub.log.clear()
        got = content_of(Path(hub.python(PULL, ID, env=hub.env(xet=down, anonymous=True)).stdout.strip()))
        del got[".gitattributes"]
        assert got == content_of(folder)
        assert bool(hub.log.find("GET", "/cas/")) == (up and down)

    @pytest.mark.parametrize("xet", [True, False], ids=["xet", "lfs"])
    def test_a_resumed_push_sends_only_what_is_missing(self, hub: HubServer, folder: Path, xet: bool) -> None:
        hub.faults.add(Fault("POST", "/commit/", status=400))
        failed = hub.python(FAILED_PUSH, folder, ID, env=hub.env(xet=xet))
        assert failed.stdout.strip() == "BadRequestError" and held(hub) == {}
        sent = hub.log.received("PUT", "^/lfs/") + hub.log.received("POST", "/cas/v1/xorbs/")
        assert 500_000 <= sent < 510_000
        hub.log.clear()
        folder_of(folder, {"64/train-0.parquet": os.urandom(100_000)})
        hub.python(PUSH, folder, ID, env=hub.env(xet=xet))
        assert held(hub) == content_of(folder)
        sent = hub.log.received("PUT", "^/lfs/") + hub.log.received("POST", "/cas/v1/xorbs/")
        assert 100_000 <= sent < 102_000

    def test_a_xorb_cut_on_its_way_is_sent_again(self, hub: HubServer, folder: Path) -> None:
        hub.faults.add(Fault("POST", "/cas/v1/xorbs/", drop_received=80_000))
        hub.python(PUSH, folder, ID, env=hub.env(xet=True))
        assert held(hub) == content_of(folder)
        assert [seen.status for seen in hub.log.find("POST", "/cas/v1/xorbs/")] == [0, 200]

    def test_two_xet_clients_at_once(self, hub: HubServer, tmp_path: Path) -> None:
        """Each pushes its own file; a commit without a parent builds on whatever is there."""
        hub.store.create("dataset", ID)
        folders = [folder_of(tmp_path / str(n), {f"{n}.parquet": os.urandom(200_000)}) for n in range(2)]
        threads = [
            threading.Thread(target=hub.python, args=(PUSH, folder, ID), kwargs={"env": hub.env(xet=True)})
            for folder in folders
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert held(hub) == content_of(folders[0]) | content_of(folders[1])

    def test_xet_keeps_to_permissions(self, hub: HubServer) -> None:
        hub.store.create("dataset", ID, private=True)
        write = f"{hub.url}/api/datasets/{ID}/xet-write-token/main"
        assert httpx2.get(write, trust_env=False).status_code == 404
        reader = {"Authorization": f"Bearer {hub.read_token.secret}"}
        assert httpx2.get(write, headers=reader, trust_env=False).status_code == 403
        read = httpx2.get(write.replace("write", "read"), headers=reader, trust_env=False).json()
        for secret in (read["accessToken"], hub.token.secret, "none"):
            answer = httpx2.post(
                f"{read['casUrl']}/v1/xorbs/default/00", headers={"Authorization": f"Bearer {secret}"}, trust_env=False
            )
            assert answer.status_code == 401
        assert not hub.xet.xorbs


LOAD = """
import json, sys
import pandas, pyarrow.parquet
from datasets import get_dataset_config_names, load_dataset
from huggingface_hub import HfFileSystem
name = sys.argv[1]
told = {
    "configs": get_dataset_config_names(name),
    "default": load_dataset(name, split="train")["x"][:],
    "by name": load_dataset(name, "64", split="train")["x"][:],
    "splits": sorted(load_dataset(name, "28")),
    "tagged": load_dataset(name, "28", split="test", revision="v1")["x"][:],
    "now": load_dataset(name, "28", split="test")["x"][:],
    "streamed": [row["x"] for row in load_dataset(name, "28", split="train", streaming=True)],
    "pandas": pandas.read_parquet(f"hf://datasets/{name}/64/train-0.parquet")["x"].tolist(),
    "old": pandas.read_parquet(f"hf://datasets/{name}@v1/28/test-0.parquet")["x"].tolist(),
    "glob": HfFileSystem().glob(f"datasets/{name}/28/*.parquet"),
    "rows": pyarrow.parquet.ParquetFile(HfFileSystem().open(f"datasets/{name}/28/train-0.parquet")).metadata.num_rows,
}
print(json.dumps(told))
"""


@pytest.mark.parametrize("xet", [True, False], ids=["xet", "lfs"])
def test_datasets_and_hf_paths_read_what_was_pushed(hub: HubServer, tmp_path: Path, xet: bool) -> None:
    def shard(values: list[int]) -> bytes:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"x": values}), sink)
        return bytes(sink.getvalue())

    dist = folder_of(
        tmp_path / "dist",
        {
            "README.md": CARD,
            "28/train-0.parquet": shard([1, 2, 3]),
            "28/test-0.parquet": shard([4]),
            "64/train-0.parquet": shard([5, 6]),
        },
    )
    hub.python(PUSH, dist, ID, env=hub.env(xet=xet))
    hub.api().create_tag(ID, tag="v1", repo_type="dataset")
    hub.store.write("dataset", ID, {"28/test-0.parquet": shard([7])})
    told = json.loads(hub.load(LOAD, ID, env=hub.env(xet=xet, anonymous=True)))
    assert told == {
        "configs": ["28", "64"],
        "default": [1, 2, 3],
        "by name": [5, 6],
        "splits": ["test", "train"],
        "tagged": [4],
        "now": [7],
        "streamed": [1, 2, 3],
        "pandas": [5, 6],
        "old": [4],
        "glob": [f"datasets/{ID}/28/test-0.parquet", f"datasets/{ID}/28/train-0.parquet"],
        "rows": 3,
    }
    assert not hub.log.find(path="^http")


def test_a_child_cannot_leave_the_loopback(hub: HubServer) -> None:
    """An outside address ends at this Hub, which refuses and notes it."""
    code = "import httpx2; print(httpx2.get('http://datasets-server.example.org/info').status_code)"
    assert hub.python(code).stdout.strip() == "404"
    assert [seen.target for seen in hub.log.find(path="^http")] == ["http://datasets-server.example.org/info"]
    code = "import httpx2\ntry:\n    httpx2.get('https://example.org')\nexcept httpx2.HTTPError as e:\n    print('no')"
    assert hub.python(code).stdout.strip() == "no"


def test_bad_request_errors_carry_the_message(hub: HubServer) -> None:
    hub.store.create("dataset", ID)
    hub.faults.add(Fault("POST", "/commit/", status=400, message="not today"))
    with pytest.raises(BadRequestError, match="not today"):
        hub.api().create_commit(ID, [add("a", "1")], commit_message="c", repo_type="dataset")
