"""The files of a repository of each type, read at one commit."""

import dataclasses
from pathlib import Path

import pytest
from huggingface_hub import constants, set_client_factory
from huggingface_hub.utils import _http

from medmnist_hf.errors import HubError, VerificationError
from medmnist_hf.hub import client
from medmnist_hf.hub import tree as reading
from medmnist_hf.hub.files import PushFile
from medmnist_hf.hub.tree import download_document, read_file, read_tree
from medmnist_hf.network import LargeResponseError, apply_limits
from tests.fixtures.hub.server import Fault, HubServer

ID = "org/thing"
FILES = {"notes.txt": b"small", "weights.safetensors": b"large" * 100}


@pytest.fixture(params=["dataset", "model", "space"], name="repo_type")
def repo_type_fixture(request: pytest.FixtureRequest, hub: HubServer) -> str:
    """The type of an existing repository."""
    repo_type = str(request.param)
    hub.store.create(repo_type, ID)
    hub.store.write(repo_type, ID, FILES)
    return repo_type


def test_all_files_are_listed_and_read(hub: HubServer, repo_type: str) -> None:
    tree = read_tree(hub.api(), ID, repo_type=repo_type)
    assert (tree.repo_id, tree.repo_type, tree.exists, tree.has_branch) == (ID, repo_type, True, True)
    assert tree.sha == hub.store.repos[repo_type, ID].resolve("main").sha
    assert set(tree.files) == {".gitattributes", *FILES}
    for path, content in FILES.items():
        assert tree.holds(path, PushFile.from_bytes(content)) and read_file(hub.api(), tree, path) == content
        assert not tree.holds(path, PushFile.from_bytes(content[:-1] + b"x"))
    assert not tree.holds("other.txt", PushFile.from_bytes(b"small"))


def test_a_file_is_read_at_the_listed_commit(hub: HubServer, repo_type: str) -> None:
    tree = read_tree(hub.api(), ID, repo_type=repo_type)
    hub.store.write(repo_type, ID, {"notes.txt": b"later"})
    assert read_file(hub.api(), tree, "notes.txt") == b"small"


def test_a_damaged_download_is_found(hub: HubServer, repo_type: str) -> None:
    tree = read_tree(hub.api(), ID, repo_type=repo_type)
    hub.faults.add(Fault("GET", "/resolve/", garble=lambda body: body[::-1]))
    with pytest.raises(VerificationError, match=r"notes\.txt of org/thing was damaged during the download: run again"):
        read_file(hub.api(), tree, "notes.txt")


def test_a_missing_repository_or_branch_can_be_allowed(hub: HubServer, repo_type: str) -> None:
    missing = read_tree(hub.api(), "org/none", repo_type=repo_type, missing_ok=True)
    assert (missing.exists, missing.has_branch, missing.sha, missing.files) == (False, False, "", {})
    main = read_tree(hub.api(), ID, repo_type=repo_type)
    other = read_tree(hub.api(), ID, "next", repo_type=repo_type, missing_ok=True)
    assert (other.exists, other.has_branch, other.sha, other.files) == (True, False, main.sha, main.files)
    for name, revision in (("org/none", "main"), (ID, "next")):
        with pytest.raises(HubError, match="no such repository or revision"):
            read_tree(hub.api(), name, revision, repo_type=repo_type)


def test_an_expired_token_is_not_reported_as_a_missing_repository(hub: HubServer, repo_type: str) -> None:
    hub.token.expired = True
    with pytest.raises(HubError, match="has expired"):
        read_tree(hub.api(), ID, repo_type=repo_type, missing_ok=True)


def test_a_busy_hub_is_retried(hub: HubServer, repo_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_WAIT", 0.01)
    for path in ("/revision/", "/tree/", "/resolve/"):
        fault = hub.faults.add(Fault("GET", path, status=503))
        assert read_file(hub.api(), read_tree(hub.api(), ID, repo_type=repo_type), "notes.txt") == b"small"
        assert fault.hits == 1


def test_a_file_listed_as_large_is_not_requested(hub: HubServer, repo_type: str) -> None:
    tree = read_tree(hub.api(), ID, repo_type=repo_type)
    large = dataclasses.replace(tree.files["notes.txt"], size=100 << 30)
    tree.files["notes.txt"] = large
    hub.log.clear()
    with pytest.raises(
        HubError, match=r"notes\.txt of org/thing: it has 107,374,182,400 bytes, more than the limit of 16,777,216"
    ):
        read_file(hub.api(), tree, "notes.txt")
    assert not hub.log.find()


@pytest.mark.parametrize("large", ["/revision/", "/tree/", "/resolve/"])
def test_an_oversized_response_is_reported_in_one_line(hub: HubServer, repo_type: str, large: str) -> None:
    limits = dataclasses.replace(client.hub_limits(), body=5000)
    before = _http._GLOBAL_CLIENT_FACTORY
    set_client_factory(lambda: apply_limits(_http.default_client_factory(), limits))
    hub.faults.add(Fault("GET", large, garble=lambda body: body + b" " * 5001))
    try:
        with pytest.raises(
            HubError, match=r"has more than 5,000 bytes\): this is not a response of the Hub, check HF_ENDPOINT"
        ):
            read_file(hub.api(), read_tree(hub.api(), ID, repo_type=repo_type), "notes.txt")
    finally:
        set_client_factory(before)


def test_a_large_document_is_not_downloaded(hub: HubServer, repo_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "DOCUMENT_BYTES", 10)
    assert download_document(ID, "notes.txt", repo_type=repo_type).read_bytes() == b"small"
    hub.store.write(repo_type, ID, {"notes.txt": b"larger than that"})
    with pytest.raises(LargeResponseError, match="it has more than 10 bytes"):
        download_document(ID, "notes.txt", repo_type=repo_type)
    assert not [
        path
        for path in Path(constants.HF_HUB_CACHE).rglob("*")
        if path.is_file() and path.stat().st_size > 10 and "blobs" in path.parts
    ]


def test_a_listing_without_end_is_reported_in_one_line(
    hub: HubServer, repo_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page links to itself as the next one."""
    monkeypatch.setattr(reading, "MAX_ENTRIES", 50)
    sha = hub.store.repos[repo_type, ID].resolve("main").sha
    page = f"{hub.url}/api/{repo_type}s/{ID}/tree/{sha}?recursive=true"
    hub.faults.add(Fault("GET", "/tree/", times=1000, headers={"Link": f'<{page}>; rel="next"'}))
    with pytest.raises(HubError, match=r"^cannot read org/thing: it lists more than 50 files and folders"):
        read_tree(hub.api(), ID, repo_type=repo_type)
