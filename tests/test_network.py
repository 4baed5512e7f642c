"""No request waits forever, and no response fills the memory: each test runs a misbehaving server."""

import gzip
import os
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from medmnist_hf import network
from medmnist_hf.network import (
    LargeResponseError,
    Limits,
    Silence,
    SilentServerError,
    UnreachableServerError,
    apply_limits,
    call_with_timeout,
    httpx,
    is_transient_status,
    transfer_seconds,
)
from tests.fixtures.raw_server import (
    BODY_DRIP,
    ENDLESS_CONTINUE,
    ENDLESS_HINTS,
    FLOOD,
    HEAD_DRIP,
    SILENT,
    Serve,
    raw_server,
    repeat,
)

QUICK = Limits(connect=1, read=0.3, change=0.6, floor=1000, window=0.3, body=100_000, unsized=300_000, in_row=2)
PROMPT = repeat(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"", 0.05)


def client(silence: Silence | None = None) -> httpx.Client:
    """A client without timeouts of its own, like that of `huggingface_hub`."""
    return apply_limits(httpx.Client(timeout=None, trust_env=False), QUICK, silence)


@pytest.fixture
def closed_port() -> int:
    """A local port on which no server listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@pytest.mark.parametrize("serve", [SILENT, HEAD_DRIP, ENDLESS_CONTINUE, ENDLESS_HINTS, BODY_DRIP])
@pytest.mark.parametrize("timeout", [None, 100.0])
def test_a_response_that_never_ends_times_out(serve: Serve, timeout: float | None) -> None:
    start = time.monotonic()
    with raw_server(serve) as server, client() as http, pytest.raises(httpx.ReadTimeout) as caught:
        http.get(server.url, timeout=timeout)
    assert 0.25 < time.monotonic() - start < 3
    assert any(
        reason in str(caught.value) for reason in ("no data for", "no complete response head", "less than 1,000")
    )


def test_a_request_that_changes_something_may_take_longer() -> None:
    with raw_server(SILENT) as server, client() as http, pytest.raises(httpx.ReadTimeout):
        start = time.monotonic()
        http.post(server.url, content=b"x")
    assert time.monotonic() - start > 0.55


def test_a_shorter_timeout_of_the_caller_is_kept() -> None:
    with raw_server(SILENT) as server, client() as http, pytest.raises(httpx.ReadTimeout):
        start = time.monotonic()
        http.get(server.url, timeout=0.05)
    assert time.monotonic() - start < 0.25


def test_a_slow_response_above_the_minimum_speed_is_read() -> None:
    """5 kB in chunks of 100 bytes, for longer than the window."""
    body = repeat(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", bytes(100), 0.02)
    with raw_server(body) as server, client() as http:
        start = time.monotonic()
        assert len(http.get(server.url).content) == 5000
    assert time.monotonic() - start > 2 * QUICK.window


def test_no_more_requests_are_sent_to_a_silent_server() -> None:
    silence = Silence()
    with raw_server(BODY_DRIP) as server, client(silence) as http:
        for _ in range(QUICK.in_row):
            with pytest.raises(httpx.ReadTimeout):
                http.get(server.url)
        with pytest.raises(SilentServerError, match="no complete response to 2 requests in a row"):
            http.get(server.url)
        assert len(server.requests) == QUICK.in_row
    with raw_server(PROMPT) as server, client(silence) as http:
        with pytest.raises(SilentServerError):
            http.get(server.url)
        silence.since -= network._PAUSE
        assert http.get(server.url).text == "ok"
        assert silence.requests == 0


def test_proxies_from_the_environment_have_limits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server(HEAD_DRIP) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with apply_limits(httpx.Client(timeout=None), QUICK) as http, pytest.raises(httpx.ReadTimeout):
            http.get("http://example.invalid/")
        assert b"example.invalid" in proxy.requests[0]


def test_which_statuses_are_transient() -> None:
    assert [status for status in range(400, 600) if is_transient_status(status)] == [408, 425, 429, *range(500, 600)]


def test_a_call_that_cannot_be_interrupted_times_out() -> None:
    ended = threading.Event()
    with pytest.raises(SilentServerError, match=r"has not ended within 0 s"):
        call_with_timeout(0.05, ended.wait)
    ended.set()
    assert call_with_timeout(5, lambda: 7) == 7
    with pytest.raises(FileNotFoundError, match="gone"):
        call_with_timeout(5, lambda: (_ for _ in ()).throw(FileNotFoundError("gone")))
    assert transfer_seconds(0) < transfer_seconds(1 << 29) < 24 * 3600


def test_an_unreachable_server_fails_at_once_unless_it_has_responded_before(closed_port: int) -> None:
    limits, silence = Limits(gives_up=True), Silence()
    with apply_limits(httpx.Client(), limits, silence) as client:
        with pytest.raises(UnreachableServerError, match=r"no connection to 127.0.0.1: [^;]*$"):
            client.get(f"http://127.0.0.1:{closed_port}/")
        silence.answered = True  # a lost connection may recover
        with pytest.raises(httpx.ConnectError):
            client.get(f"http://127.0.0.1:{closed_port}/")


def test_without_a_network_a_command_ends_quickly_in_one_line(closed_port: int, tmp_path: Path) -> None:
    """`huggingface_hub` alone prints twelve lines in 24 seconds."""
    online = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment = {**online, "HF_ENDPOINT": f"http://127.0.0.1:{closed_port}", "HF_HOME": str(tmp_path / "hf")}
    command = [sys.executable, "-m", "medmnist_hf", "export", "breastmnist", "--out", str(tmp_path / "out")]
    start = time.monotonic()
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and time.monotonic() - start < 15
    assert result.stderr.count("\n") == 1 and "check the network" in result.stderr
    assert "HF_HUB_OFFLINE" not in result.stderr, "push cannot work offline"


def sized(length: int, content: bytes, coding: str = "") -> Serve:
    """A response with a declared length, which repeats its content forever unless that is as long as declared."""
    coded = f"Content-Encoding: {coding}\r\n" if coding else ""
    head = f"HTTP/1.1 200 OK\r\nConnection: close\r\n{coded}Content-Length: {length}\r\n\r\n"
    return repeat(head.encode() + content, b"" if len(content) == length else content, 0.01)


BOMB = gzip.compress(bytes(10_000_000))
ENDLESS_CHUNKS = repeat(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + bytes(4096) + b"\r\n")


@pytest.mark.parametrize(
    "serve",
    [FLOOD, ENDLESS_CHUNKS, sized(100 << 30, b"0"), sized(100_001, bytes(100_001)), sized(len(BOMB), BOMB, "gzip")],
)
def test_a_response_in_memory_has_a_size_limit(serve: Serve) -> None:
    tracemalloc.start()
    with raw_server(serve) as server, client() as http, pytest.raises(LargeResponseError) as caught:
        http.get(f"{server.url}/api/x?token=secret")
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()
    assert str(caught.value) == "the response of 127.0.0.1 to GET /api/x has more than 100,000 bytes"


def test_a_response_within_the_limit_is_complete_and_its_connection_reused() -> None:
    served = 0

    def serve(connection: socket.socket, stopped: threading.Event) -> None:
        nonlocal served
        served += 1
        for _ in range(2):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000))
            connection.recv(65536)

    with raw_server(serve) as server, client() as http:
        assert [http.get(server.url).content for _ in range(2)] == [bytes(100_000)] * 2
    assert served == 1


def test_a_range_may_be_as_long_as_requested() -> None:
    with raw_server(sized(200_000, bytes(200_000))) as server, client() as http:
        assert len(http.get(server.url, headers={"Range": "bytes=5-200004"}).content) == 200_000
        for invalid in ("bytes=5-", "bytes=9-5", f"bytes=0-{'9' * 5000}"):
            with pytest.raises(LargeResponseError):
                http.get(server.url, headers={"Range": invalid})


def test_a_head_response_may_declare_any_length() -> None:
    with raw_server(sized(100 << 30, b"")) as server, client() as http:
        assert http.head(server.url).headers["Content-Length"] == str(100 << 30)


@pytest.mark.parametrize(
    ("serve", "size"), [(sized(900_000, bytes(900_000)), 900_000), (FLOOD, None), (ENDLESS_CHUNKS, None)]
)
def test_a_streamed_response_ends_at_its_length_or_at_the_limit(serve: Serve, size: int | None) -> None:
    with raw_server(serve) as server, client() as http, http.stream("GET", server.url) as response:
        if size:
            assert sum(map(len, response.iter_bytes())) == size
        else:
            with pytest.raises(LargeResponseError, match="has more than 300,000 bytes"):
                for _ in response.iter_bytes():
                    pass
