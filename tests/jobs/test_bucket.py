"""What is asked of a bucket, by the real client on a server at 127.0.0.1."""

import threading
from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import unquote

import pytest
from huggingface_hub import HfApi, constants

from medmnist_hf.jobs.bucket import Bucket
from tests.fixtures.hub.access import Access, HubError
from tests.fixtures.hub.http import Answer, HttpServer, Request, reply, route


class BucketServer:
    """A bucket of files without content; a request for its deletions is kept."""

    def __init__(self) -> None:
        access = Access(members={})
        self.files = {"dist/tasks.json", "dist/completions/00001", "dist/completions/00007", "top.txt"}
        self.batches: list[bytes] = []
        self.created: list[object] = []
        self.http = HttpServer(access, threading.RLock(), own_tokens=())
        self.api = HfApi(endpoint=self.http.url, token=access.token("alice").secret)
        self.http.start(
            [
                route("GET", "/api/buckets/{id}/tree", self._tree),
                route("GET", "/api/buckets/{id}/tree/{prefix}", self._tree),
                route("POST", "/api/buckets/{id}/batch", self._batch),
                route("POST", "/api/buckets/{id}", self._create),
            ]
        )

    def _create(self, request: Request, id: str) -> Answer:
        self.created.append(request.json())
        return reply({"url": f"{self.http.url}/buckets/{id}"})

    def _tree(self, request: Request, id: str, prefix: str = "") -> Answer:
        prefix = unquote(prefix)
        inside = [name for name in sorted(self.files) if name.startswith(f"{prefix}/" if prefix else "")]
        if not inside:
            raise HubError(404, "no such folder", "EntryNotFound")
        return reply([{"type": "file", "path": name, "size": 0, "xetHash": "0" * 64} for name in inside])

    def _batch(self, request: Request, id: str) -> Answer:
        self.batches.append(request.body)
        return reply({"success": True, "processed": 1, "succeeded": 1, "failed": []})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BucketServer]:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    server = BucketServer()
    yield server
    server.http.stop()
    assert not server.http.crashes, server.http.crashes[0]


def test_names_are_those_directly_in_a_folder(server: BucketServer) -> None:
    bucket = Bucket("alice/medmnist", server.api)
    assert bucket.names(PurePosixPath("dist/completions")) == {"00001", "00007"}
    assert bucket.names(PurePosixPath("dist")) == {"tasks.json"}
    assert bucket.names(PurePosixPath()) == {"top.txt"}
    assert bucket.names(PurePosixPath("none")) == set()


def test_a_bucket_is_created_private(server: BucketServer) -> None:
    Bucket("alice/medmnist", server.api).create()
    assert server.created == [{"visibility": "private"}]


def test_files_are_removed_in_one_request_and_nothing_is_asked_without_need(server: BucketServer) -> None:
    bucket = Bucket("alice/medmnist", server.api)
    bucket.write({})
    bucket.fetch({})
    assert not server.http.log.find()
    bucket.write({}, remove=[PurePosixPath("dist/completions/00001"), PurePosixPath("top.txt")])
    (batch,) = server.batches
    assert batch.count(b"\n") in {1, 2} and b"dist/completions/00001" in batch and b"top.txt" in batch
