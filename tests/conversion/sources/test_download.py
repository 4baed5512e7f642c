"""Downloads from a loopback server that fails in every way a network can."""

import base64
import contextlib
import email.utils
import hashlib
import json
import logging
import multiprocessing
import re
import resource
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medmnist_hf.conversion.sources import download as module
from medmnist_hf.conversion.sources.download import Patience, download, is_downgrade, md5_of
from medmnist_hf.errors import SourceError
from medmnist_hf.network import Limits
from tests.fixtures.raw_server import (
    BODY_DRIP,
    ENDLESS_CONTINUE,
    ENDLESS_HINTS,
    FLOOD,
    HEAD_DRIP,
    SILENT,
    Serve,
    raw_server,
)
from tests.fixtures.zenodo import Reply, ZenodoServer, zenodo_server

CONTENT = b"".join(hashlib.sha256(i.to_bytes(4, "big")).digest() for i in range(12_000))
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
HALF = len(CONTENT) // 2
MOST = 2 * len(CONTENT)
QUICK = Patience(Limits(connect=2, read=0.4, window=0.4), attempts=3, requests=12, first_pause=0.001, longest_pause=2)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[ZenodoServer]:
    with zenodo_server() as running:
        running.files["file.npz"] = CONTENT
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.npz"


def fetch(server: ZenodoServer, path: Path) -> None:
    download([f"{server.url}/file.npz"], path, MD5, MOST, QUICK)


def left(path: Path) -> set[str]:
    return {entry.name for entry in path.parent.iterdir()}


def assert_fails(server: ZenodoServer, path: Path, *expected: str) -> None:
    """Check that the download fails with one line that contains all of `expected`, and leaves no complete file."""
    with pytest.raises(SourceError) as caught:
        fetch(server, path)
    message = str(caught.value)
    assert "\n" not in message
    assert "file.npz" in message
    for text in expected:
        assert text in message
    assert not path.exists()


def assert_complete(path: Path) -> None:
    """Check that the file is complete and that no other file is left."""
    assert path.read_bytes() == CONTENT
    assert left(path) == {"file.npz"}


def test_a_file_is_downloaded_with_one_request(server: ZenodoServer, path: Path) -> None:
    fetch(server, path)
    assert_complete(path)
    assert [(seen.status, seen.range, seen.sent) for seen in server.seen] == [(200, "", len(CONTENT))]


def test_a_dropped_transfer_resumes_where_it_stopped(server: ZenodoServer, path: Path) -> None:
    server.script = [Reply(drop_after=HALF)]
    fetch(server, path)
    assert_complete(path)
    assert [seen.status for seen in server.seen] == [200, 206]
    assert server.seen[1].range == f"bytes={HALF}-"
    assert server.seen[1].if_range
    assert server.sent == len(CONTENT)


def test_progress_restarts_the_count_of_attempts(server: ZenodoServer, path: Path) -> None:
    step = len(CONTENT) // 10
    server.script = [Reply(drop_after=step)] * 8
    fetch(server, path)
    assert_complete(path)
    assert len(server.seen) > QUICK.attempts
    assert server.sent == len(CONTENT)


def test_drops_without_progress_end_the_download(server: ZenodoServer, path: Path) -> None:
    server.then = Reply(drop_after=10)
    assert_fails(server, path, "the connection was lost")
    assert len(server.seen) == QUICK.attempts


def test_drops_without_range_support_end_the_download(server: ZenodoServer, path: Path) -> None:
    server.then = Reply(drop_after=HALF, ranges=False)
    assert_fails(server, path, "the connection was lost")
    assert len(server.seen) == QUICK.attempts


def test_part_of_an_earlier_run_is_resumed(server: ZenodoServer, path: Path) -> None:
    server.then = Reply(drop_after=HALF, ranges=False)
    assert_fails(server, path)
    server.then = Reply()
    before = server.sent
    fetch(server, path)
    assert_complete(path)
    assert server.sent - before == len(CONTENT) - HALF


@pytest.mark.parametrize("status", [404, 403, 410, 301])
def test_a_final_status_is_not_retried(server: ZenodoServer, path: Path, status: int) -> None:
    server.then = Reply(status=status)
    assert_fails(server, path, f"answered {status}")
    assert len(server.seen) == 1
    assert left(path) == set()


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_a_transient_status_is_retried(server: ZenodoServer, path: Path, status: int) -> None:
    server.script = [Reply(status=status), Reply(status=status)]
    fetch(server, path)
    assert_complete(path)
    assert len(server.seen) == 3


def test_a_permanent_503_ends_the_download(server: ZenodoServer, path: Path) -> None:
    server.then = Reply(status=503)
    assert_fails(server, path, "answered 503 Service Unavailable")
    assert len(server.seen) == QUICK.attempts
    assert left(path) == set()


@pytest.mark.parametrize("status", [503, 429])
def test_retry_after_in_seconds_is_respected(server: ZenodoServer, path: Path, status: int) -> None:
    server.script = [Reply(status=status, headers={"Retry-After": "1"})]
    start = time.monotonic()
    fetch(server, path)
    assert time.monotonic() - start >= 1
    assert_complete(path)


def test_retry_after_as_a_date_is_respected(server: ZenodoServer, path: Path) -> None:
    when = email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    server.script = [Reply(status=503, headers={"Retry-After": when})]
    start = time.monotonic()
    fetch(server, path)
    assert time.monotonic() - start >= 0.5
    assert_complete(path)


def test_a_server_with_a_long_retry_after_is_given_up(server: ZenodoServer, path: Path) -> None:
    server.then = Reply(status=503, headers={"Retry-After": "3600"})
    assert_fails(server, path, "requested a wait of 3600 s")
    assert len(server.seen) == 1


@given(st.text(max_size=40))
@example("")
@example("-1")
@example("Wed, 99 Xyz 2026 00:00:00 GMT")
@example("Wed, 21 Oct 2015 07:28:00 -0000")
@example("9" * 400)
def test_any_retry_after_is_parsed_or_ignored(value: str) -> None:
    seconds = module._retry_after(value)
    assert seconds is None or seconds >= 0


def test_a_content_length_that_is_too_long_is_survived(server: ZenodoServer, path: Path) -> None:
    server.script = [Reply(length=len(CONTENT) + 5)]
    fetch(server, path)
    assert_complete(path)


def test_a_content_length_that_is_too_short_ends_the_download(server: ZenodoServer, path: Path) -> None:
    server.then = Reply(length=HALF, ranges=False)
    assert_fails(server, path, "MD5", MD5)
    assert left(path) == set()


def test_a_truncated_body_without_a_length_is_resumed(server: ZenodoServer, path: Path) -> None:
    server.script = [Reply(length=-1, cut=HALF)]
    fetch(server, path)
    assert_complete(path)
    assert server.sent == len(CONTENT)


def test_a_body_that_is_always_truncated_ends_the_download(server: ZenodoServer, path: Path) -> None:
    server.then = Reply(length=-1, cut=HALF, ranges=False)
    assert_fails(server, path, "MD5")
    assert left(path) == set()


def test_a_complete_body_without_a_length_is_accepted(server: ZenodoServer, path: Path) -> None:
    server.then = Reply(length=-1)
    fetch(server, path)
    assert_complete(path)
    assert len(server.seen) == 1


@pytest.mark.parametrize("body", [CONTENT[::-1], b"<html>down for maintenance</html>", b""])
def test_wrong_bytes_end_the_download(server: ZenodoServer, path: Path, body: bytes) -> None:
    server.then = Reply(body=body)
    assert_fails(server, path, hashlib.md5(body, usedforsecurity=False).hexdigest(), MD5)
    assert len(server.seen) == 1
    assert left(path) == set()


def test_a_content_encoding_that_was_not_requested_is_refused(server: ZenodoServer, path: Path) -> None:
    server.then = Reply(headers={"Content-Encoding": "gzip"})
    assert_fails(server, path, "content encoding")


def test_without_range_support_a_transfer_starts_over(server: ZenodoServer, path: Path) -> None:
    server.script = [Reply(drop_after=HALF), Reply(ranges=False)]
    fetch(server, path)
    assert_complete(path)
    assert server.sent == len(CONTENT) + HALF


@pytest.mark.parametrize(
    "wrong",
    [
        f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}",
        f"bytes {HALF + 1}-{len(CONTENT) - 1}/{len(CONTENT)}",
        f"bytes {HALF}-{len(CONTENT)}/{len(CONTENT) + 1}",
        "nonsense",
    ],
)
def test_after_a_wrong_content_range_a_transfer_starts_over(server: ZenodoServer, path: Path, wrong: str) -> None:
    server.script = [Reply(drop_after=HALF), Reply(content_range=wrong)]
    fetch(server, path)
    assert_complete(path)
    assert [seen.status for seen in server.seen] == [200, 206, 200]


def test_an_unrequested_206_is_refused(server: ZenodoServer, path: Path) -> None:
    server.then = Reply(status=206)
    assert_fails(server, path, "another range")
    assert left(path) == set()


def test_a_complete_part_is_accepted_after_416(server: ZenodoServer, path: Path) -> None:
    path.with_name("file.npz.part").write_bytes(CONTENT)
    fetch(server, path)
    assert_complete(path)
    assert [(seen.status, seen.sent) for seen in server.seen] == [(416, 0)]


@pytest.mark.parametrize("garbage", [CONTENT[::-1], CONTENT + b"more", bytes(HALF)], ids=["same", "longer", "shorter"])
def test_garbage_in_a_part_is_discarded(server: ZenodoServer, path: Path, garbage: bytes) -> None:
    path.with_name("file.npz.part").write_bytes(garbage)
    fetch(server, path)
    assert_complete(path)
    assert server.seen[-1].range == ""


@pytest.mark.parametrize("note", ["", "{", "[]", '{"url": 3}', '{"total": "x"}', '{"other": 1}'])
def test_garbage_in_a_note_is_ignored(server: ZenodoServer, path: Path, note: str) -> None:
    path.with_name("file.npz.part").write_bytes(CONTENT[:HALF])
    path.with_name("file.npz.part.json").write_text(note)
    fetch(server, path)
    assert_complete(path)
    assert server.sent == len(CONTENT) - HALF


def test_if_the_file_changed_on_the_server_a_transfer_starts_over(server: ZenodoServer, path: Path) -> None:
    server.files["file.npz"] = bytes(len(CONTENT))
    server.then = Reply(drop_after=HALF, ranges=False)
    assert_fails(server, path)
    server.files["file.npz"], server.then = CONTENT, Reply()
    server.seen.clear()
    fetch(server, path)
    assert_complete(path)
    assert [(seen.status, bool(seen.if_range)) for seen in server.seen] == [(200, True)]


@pytest.mark.parametrize("etag", ['W/"weak"', None])
def test_if_range_is_sent_only_with_a_strong_etag(server: ZenodoServer, path: Path, etag: str | None) -> None:
    server.script = [Reply(drop_after=HALF, headers={"ETag": etag})]
    fetch(server, path)
    assert_complete(path)
    assert [(seen.status, seen.if_range) for seen in server.seen] == [(200, ""), (206, "")]


def test_after_wrong_bytes_a_resumed_transfer_is_repeated_once(server: ZenodoServer, path: Path) -> None:
    path.with_name("file.npz.part").write_bytes(bytes(HALF))
    server.then = Reply(body=CONTENT[::-1])
    assert_fails(server, path, "MD5")
    assert [seen.status for seen in server.seen] == [206, 200]
    assert left(path) == set()


def test_a_stalled_transfer_is_resumed(server: ZenodoServer, path: Path) -> None:
    server.script = [Reply(stall_after=HALF)]
    fetch(server, path)
    assert_complete(path)
    assert server.sent == len(CONTENT)


def test_a_server_that_always_stalls_is_given_up(server: ZenodoServer, path: Path) -> None:
    server.then = Reply(stall_after=0)
    assert_fails(server, path, "no data for 0.4 s")


def test_a_refused_connection_is_reported(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file.npz"
        patience = Patience(QUICK.limits, attempts=6, first_pause=0.001)
        with pytest.raises(SourceError, match=r"^cannot fetch file\.npz .*no connection.*refused.*--source FOLDER"):
            download([url], path, MD5, MOST, patience)
    assert left(path) == set()
    assert len(caplog.records) == 2, "a server without a connection gets fewer attempts than a busy one"


def test_a_server_that_answered_before_gets_all_attempts(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After a response, refused connections are retried as often as those that time out."""

    def answer_once(server: socket.socket) -> None:
        with server, server.accept()[0] as connection:
            connection.recv(10_000)
            connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    server = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{server.getsockname()[1]}/file.npz"
    thread = threading.Thread(target=answer_once, args=(server,))
    thread.start()
    with pytest.raises(SourceError, match="no connection"):
        download([url], path, MD5, MOST, Patience(QUICK.limits, attempts=6, first_pause=0.001))
    thread.join()
    assert len(caplog.records) == 5


def test_a_redirect_keeps_the_range(server: ZenodoServer, path: Path) -> None:
    server.files["elsewhere"] = CONTENT
    path.with_name("file.npz.part").write_bytes(CONTENT[:HALF])
    server.script = [Reply(status=302, headers={"Location": "/elsewhere?token=secret"})]
    fetch(server, path)
    assert_complete(path)
    assert [seen.target for seen in server.seen] == ["/file.npz", "/elsewhere?token=secret"]
    assert server.seen[1].sent == len(CONTENT) - HALF


def test_endless_redirects_are_refused(server: ZenodoServer, path: Path) -> None:
    server.then = Reply(status=302, headers={"Location": "/file.npz"})
    assert_fails(server, path, "redirected more than")


def test_servers_are_tried_in_order(server: ZenodoServer, path: Path) -> None:
    with zenodo_server() as wrong:
        wrong.files["bad.npz"] = CONTENT[::-1]
        places = [f"{wrong.url}/none.npz", f"{wrong.url}/bad.npz", f"{server.url}/file.npz"]
        download(places, path, MD5, MOST, QUICK)
        assert [seen.target for seen in wrong.seen] == ["/none.npz", "/bad.npz"]
    assert_complete(path)


def test_the_next_server_resumes_the_transfer_of_the_previous_one(server: ZenodoServer, path: Path) -> None:
    with zenodo_server() as weak:
        weak.files["file.npz"] = CONTENT
        weak.script = [Reply(drop_after=HALF)]
        weak.then = Reply(status=404)
        download([f"{weak.url}/file.npz", f"{server.url}/file.npz"], path, MD5, MOST, QUICK)
    assert_complete(path)
    assert server.sent == len(CONTENT) - HALF
    assert server.seen[0].if_range == ""


def test_the_error_names_each_server_and_its_fault(server: ZenodoServer, path: Path) -> None:
    server.script = [Reply(status=404), Reply(body=b"other")]
    with pytest.raises(SourceError) as caught:
        download([f"{server.url}/a.npz", f"{server.url}/b.npz"], path, MD5, MOST, QUICK)
    message = str(caught.value)
    assert f"{server.url}/a.npz: answered 404" in message
    assert f"{server.url}/b.npz: sent a file with MD5" in message
    assert "\n" not in message


def test_secrets_in_a_url_are_not_shown(server: ZenodoServer, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server.script = [Reply(status=503)]
    server.then = Reply(status=404)
    url = server.url.replace("//", "//user:hunter2@") + "/file.npz?token=hunter2"
    with caplog.at_level(logging.DEBUG, logger="builders"), pytest.raises(SourceError) as caught:
        download([url], path, MD5, MOST, QUICK)
    assert server.seen[0].authorization.startswith("Basic ")
    assert "503" in caplog.text
    assert "hunter2" not in str(caught.value) + caplog.text


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1/a", "http://127.0.0.1:x/a"])
def test_an_invalid_url_is_refused(path: Path, url: str) -> None:
    with pytest.raises(SourceError, match="not a valid http URL"):
        download([url], path, MD5, MOST, QUICK)


def test_only_redirects_from_https_to_http_are_downgrades() -> None:
    assert is_downgrade("https://a/x", "http://a/x")
    assert not is_downgrade("https://a/x", "https://b/y")
    assert not is_downgrade("http://a/x", "http://b/y")
    assert not is_downgrade("http://a/x", "https://b/y")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="creates its certificate with the openssl command")
def test_a_redirect_from_https_to_http_is_refused(
    server: ZenodoServer, path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    with zenodo_server(context) as secure:
        secure.files["file.npz"] = CONTENT
        fetch(secure, path)
        assert_complete(path)
        path.unlink()
        secure.script = [Reply(status=302, headers={"Location": f"{server.url}/file.npz"})]
        assert_fails(secure, path, "redirected from https to http")
    assert server.seen == []


def test_a_file_that_does_not_fit_is_refused(server: ZenodoServer, path: Path) -> None:
    server.then = Reply(length=10**14)
    with pytest.raises(SourceError, match=r"MB free, but file\.npz needs 100,000,000 MB more: .*MEDMNIST_ROOT"):
        download([f"{server.url}/file.npz"], path, MD5, 10**15, QUICK)
    assert left(path) == set()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full to write to")
def test_a_disk_that_fills_up_is_reported(server: ZenodoServer, path: Path) -> None:
    path.with_name("file.npz.part").symlink_to("/dev/full")
    assert_fails(server, path, "No space left on device", "free some space")


@contextlib.contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_write_that_fails_halfway_is_resumed_later(server: ZenodoServer, path: Path) -> None:
    with file_size_limit(HALF):
        assert_fails(server, path, "File too large", "MEDMNIST_ROOT")
    assert path.with_name("file.npz.part").stat().st_size == HALF
    server.seen.clear()
    fetch(server, path)
    assert_complete(path)
    assert server.sent == len(CONTENT) - HALF


def test_a_missing_folder_is_reported(server: ZenodoServer, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"^cannot store .*No such file"):
        fetch(server, tmp_path / "none" / "file.npz")


def _download(url: str, path: Path) -> None:
    download([url], path, MD5, MOST, Patience())


def test_a_killed_download_is_resumed(server: ZenodoServer, path: Path) -> None:
    server.script = [Reply(stall_after=HALF)]
    child = multiprocessing.get_context("spawn").Process(target=_download, args=(f"{server.url}/file.npz", path))
    child.start()
    part = path.with_name("file.npz.part")
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    child.kill()
    child.join()
    arrived = part.stat().st_size
    assert arrived > 0
    assert not path.exists()
    server.seen.clear()
    fetch(server, path)
    assert_complete(path)
    assert server.sent == len(CONTENT) - arrived


def test_a_download_prints_nothing(server: ZenodoServer, path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fetch(server, path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("length", [None, -1], ids=["length known", "length not known"])
def test_progress_counts_all_received_bytes(server: ZenodoServer, path: Path, length: int | None) -> None:
    server.then = Reply(length=length)
    seen: list[tuple[int, int | None]] = []
    download([f"{server.url}/file.npz"], path, MD5, MOST, QUICK, on_bytes=lambda *progress: seen.append(progress))
    assert (seen[0][0], seen[-1][0]) == (0, len(CONTENT))
    assert seen == sorted(seen, key=lambda pair: pair[0])
    assert {total for _, total in seen} == {len(CONTENT) if length is None else None}


def test_progress_of_a_resumed_transfer_continues_where_it_stopped(server: ZenodoServer, path: Path) -> None:
    server.script = [Reply(drop_after=HALF)]
    seen: list[int] = []
    download(
        [f"{server.url}/file.npz"], path, MD5, MOST, QUICK, on_bytes=lambda received, total: seen.append(received)
    )
    assert seen == sorted(seen)
    assert seen.count(HALF) == 2, "the end of the first transfer and the start of the second"
    assert seen[-1] == len(CONTENT)


def test_the_md5_of_a_file_is_computed(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    assert md5_of(file) == MD5
    with pytest.raises(SourceError, match=r"^cannot read .*it is not a regular file"):
        md5_of(tmp_path)


@pytest.mark.parametrize("serve", [SILENT, HEAD_DRIP, ENDLESS_CONTINUE, ENDLESS_HINTS, BODY_DRIP])
def test_after_an_endless_response_the_next_server_is_tried(server: ZenodoServer, path: Path, serve: Serve) -> None:
    start = time.monotonic()
    with raw_server(serve) as endless:
        download([f"{endless.url}/file.npz", f"{server.url}/file.npz"], path, MD5, MOST, QUICK)
        assert len(endless.requests) == QUICK.attempts
    assert_complete(path)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("length", [None, -1], ids=["announced", "without a length"])
def test_after_a_body_that_is_too_long_the_next_server_is_tried(
    server: ZenodoServer, path: Path, caplog: pytest.LogCaptureFixture, length: int | None
) -> None:
    with zenodo_server() as wrong:
        wrong.then = Reply(body=bytes(MOST + 1), length=length)
        download([f"{wrong.url}/file.npz", f"{server.url}/file.npz"], path, MD5, MOST, QUICK)
        assert len(wrong.seen) == 1
    assert_complete(path)


def test_an_endless_body_stops_at_the_size_limit(path: Path) -> None:
    with raw_server(FLOOD) as endless, pytest.raises(SourceError, match=f"sent more than {MOST:,} bytes"):
        download([f"{endless.url}/file.npz"], path, MD5, MOST, QUICK)
    assert left(path) == set()


def test_a_part_that_is_too_long_is_not_resumed(server: ZenodoServer, path: Path) -> None:
    path.with_name("file.npz.part").write_bytes(CONTENT + bytes(MOST))
    fetch(server, path)
    assert_complete(path)
    assert [seen.range for seen in server.seen] == [""]


def test_the_number_of_requests_is_limited(server: ZenodoServer, path: Path) -> None:
    """Each request delivers a hundredth of the file and then drops, which restarts the count of failures."""
    step = len(CONTENT) // 100 + 1
    server.then = Reply(drop_after=step)
    assert_fails(server, path, f"the last of {QUICK.requests} requests")
    assert len(server.seen) == QUICK.requests
    assert path.with_name("file.npz.part").stat().st_size == QUICK.requests * step, "a later run resumes here"


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": f"bytes 0-1/{'9' * 5000}"},
        {"Content-Range": f"bytes {'9' * 5000}-{'9' * 5000}/*"},
        {"Content-Length": "9" * 5000},
        {"Retry-After": "9" * 5000},
        {"Location": "http://[::1"},
        {"Location": "http://a\u2028b/" + "x" * 70_000},
    ],
    ids=lambda headers: "{}: {}".format(*next(iter(headers.items())))[:30],
)
@pytest.mark.parametrize("status", [200, 206, 302, 416, 503])
def test_after_invalid_headers_the_next_server_is_tried(
    server: ZenodoServer, path: Path, headers: dict[str, str], status: int
) -> None:
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    answer = f"HTTP/1.1 {status} Odd\r\nConnection: close\r\n{head}\r\n".encode()
    path.with_name("file.npz.part").write_bytes(CONTENT[:HALF])
    with raw_server(lambda connection, stopped: connection.sendall(answer)) as odd:
        download([f"{odd.url}/file.npz", f"{server.url}/file.npz"], path, MD5, MOST, QUICK)
    assert_complete(path)


@pytest.mark.parametrize(
    "etag", ["\u00e9\u2603".encode(), b"x" * 5000, b'"' + b"y" * 5000 + b'"', b'"\xff"', b"plain"]
)
def test_an_etag_that_cannot_be_sent_back_is_not_stored(server: ZenodoServer, path: Path, etag: bytes) -> None:
    server.script = [Reply(drop_after=HALF, headers={"ETag": etag.decode("latin-1")})]
    fetch(server, path)
    assert_complete(path)
    assert [(seen.status, seen.if_range) for seen in server.seen] == [(200, ""), (206, "")]


def test_a_note_with_an_invalid_etag_is_ignored(server: ZenodoServer, path: Path) -> None:
    path.with_name("file.npz.part").write_bytes(CONTENT[:HALF])
    note = {"url": f"{server.url}/file.npz", "etag": "\u00e9\u2603", "total": len(CONTENT)}
    path.with_name("file.npz.part.json").write_text(json.dumps(note))
    fetch(server, path)
    assert_complete(path)
    assert [seen.status for seen in server.seen] == [206]


def test_a_note_has_no_secret_and_only_its_owner_can_read_it(server: ZenodoServer, path: Path) -> None:
    note = path.with_name("file.npz.part.json")
    note.write_text("{}")
    note.chmod(0o644)
    server.then = Reply(drop_after=HALF, ranges=False)
    url = server.url.replace("//", "//user:hunter2@") + "/file.npz?token=hunter2"
    with pytest.raises(SourceError):
        download([url], path, MD5, MOST, QUICK)
    assert "hunter2" not in note.read_text() and json.loads(note.read_text())["etag"]
    assert note.stat().st_mode & 0o777 == 0o600
    server.then = Reply()
    download([url], path, MD5, MOST, QUICK)
    assert server.seen[-1].if_range, "the note belongs to this URL, whose secrets it leaves out"


def test_a_server_that_reflects_a_password_does_not_show_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def reflect(connection: socket.socket, stopped: threading.Event) -> None:
        sent = re.search(rb"Basic (\S+)", reflecting.requests[-1])
        assert sent is not None
        plain = base64.b64decode(sent[1]).partition(b":")[2]
        connection.sendall(b"HTTP/1.1 503 you sent %s, %s\r\nContent-Length: 0\r\n\r\n" % (sent[1], plain))

    with raw_server(reflect) as reflecting, pytest.raises(SourceError) as caught:
        url = reflecting.url.replace("//", "//user:hunter2@") + "/file.npz"
        download([url], path, MD5, MOST, QUICK)
    encoded = base64.b64encode(b"user:hunter2").decode()
    for text in (str(caught.value), caplog.text):
        assert "you sent ***, ***" in text and "hunter2" not in text and encoded not in text
