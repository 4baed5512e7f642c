"""No answer is waited for without end: each test is a server that means to be."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2
import pytest

from medmnist_hf import network
from medmnist_hf.network import (
    Limits,
    Silence,
    SilentServerError,
    UnreachableServerError,
    is_transient_status,
    limited,
    transfer_seconds,
    within,
)
from tests.fixtures.raw_server import (
    BODY_DRIP,
    ENDLESS_CONTINUE,
    ENDLESS_HINTS,
    HEAD_DRIP,
    SILENT,
    Serve,
    raw_server,
    repeat,
)

QUICK = Limits(connect=1, read=0.3, change=0.6, floor=1000, window=0.3, in_row=2)
PROMPT = repeat(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"", 0.05)


def client(silence: Silence | None = None) -> httpx2.Client:
    """A client without time-outs of its own, as that of `huggingface_hub` is."""
    return limited(httpx2.Client(timeout=None, trust_env=False), QUICK, silence)


@pytest.fixture
def closed_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@pytest.mark.parametrize("serve", [SILENT, HEAD_DRIP, ENDLESS_CONTINUE, ENDLESS_HINTS, BODY_DRIP])
@pytest.mark.parametrize("timeout", [None, 100.0])
def test_what_never_ends_is_given_up(serve: Serve, timeout: float | None) -> None:
    start = time.monotonic()
    with raw_server(serve) as server, client() as asking, pytest.raises(httpx2.ReadTimeout) as caught:
        asking.get(server.url, timeout=timeout)
    assert 0.25 < time.monotonic() - start < 3
    assert (
        "no data for" in str(caught.value) or "no whole head" in str(caught.value) or "less than" in str(caught.value)
    )


def test_a_request_that_changes_something_may_take_longer() -> None:
    with raw_server(SILENT) as server, client() as asking, pytest.raises(httpx2.ReadTimeout):
        start = time.monotonic()
        asking.post(server.url, content=b"x")
    assert time.monotonic() - start > 0.55


def test_a_short_timeout_of_the_caller_stays() -> None:
    with raw_server(SILENT) as server, client() as asking, pytest.raises(httpx2.ReadTimeout):
        start = time.monotonic()
        asking.get(server.url, timeout=0.05)
    assert time.monotonic() - start < 0.25


def test_a_slow_answer_above_the_floor_is_read_to_its_end() -> None:
    """5 kB in pieces of 100 bytes, for longer than the window."""
    body = repeat(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", bytes(100), 0.02)
    with raw_server(body) as server, client() as asking:
        start = time.monotonic()
        assert len(asking.get(server.url).content) == 5000
    assert time.monotonic() - start > 2 * QUICK.window


def test_a_server_that_never_answers_is_not_asked_for_ever() -> None:
    silence = Silence()
    with raw_server(BODY_DRIP) as server, client(silence) as asking:
        for _ in range(QUICK.in_row):
            with pytest.raises(httpx2.ReadTimeout):
                asking.get(server.url)
        with pytest.raises(SilentServerError, match="no whole answer to 2 requests in a row"):
            asking.get(server.url)
        assert len(server.requests) == QUICK.in_row
    with raw_server(PROMPT) as server, client(silence) as asking:
        with pytest.raises(SilentServerError):
            asking.get(server.url)
        silence.since -= network._PAUSE
        assert asking.get(server.url).text == "ok"
        assert silence.requests == 0


def test_proxies_of_the_environment_have_limits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server(HEAD_DRIP) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with limited(httpx2.Client(timeout=None), QUICK) as asking, pytest.raises(httpx2.ReadTimeout):
            asking.get("http://example.invalid/")
        assert b"example.invalid" in proxy.requests[0]


def test_which_answers_may_be_others_later() -> None:
    assert [status for status in range(400, 600) if is_transient_status(status)] == [408, 425, 429, *range(500, 600)]


def test_a_call_that_cannot_be_interrupted_is_given_up() -> None:
    ended = threading.Event()
    with pytest.raises(SilentServerError, match=r"has not ended within 0 s"):
        within(0.05, ended.wait)
    ended.set()
    assert within(5, lambda: 7) == 7
    with pytest.raises(FileNotFoundError, match="gone"):
        within(5, lambda: (_ for _ in ()).throw(FileNotFoundError("gone")))
    assert transfer_seconds(0) < transfer_seconds(1 << 29) < 24 * 3600


def test_where_nobody_listens_it_is_said_at_once_until_there_was_an_answer(closed_port: int) -> None:
    limits, silence = Limits(gives_up=True), Silence()
    with limited(httpx2.Client(), limits, silence) as client:
        with pytest.raises(UnreachableServerError, match=r"no connection to 127.0.0.1: .*; with HF_HUB_OFFLINE=1"):
            client.get(f"http://127.0.0.1:{closed_port}/")
        silence.answered = True  # a connection that breaks may come back
        with pytest.raises(httpx2.ConnectError):
            client.get(f"http://127.0.0.1:{closed_port}/")


def test_without_a_network_a_command_ends_in_one_line_soon(closed_port: int, tmp_path: Path) -> None:
    """The client of the Hub alone says twelve lines within 24 seconds."""
    here = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment = {**here, "HF_ENDPOINT": f"http://127.0.0.1:{closed_port}", "HF_HOME": str(tmp_path / "hf")}
    command = [sys.executable, "-m", "medmnist_hf", "export", "breastmnist", "--out", str(tmp_path / "out")]
    start = time.monotonic()
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and time.monotonic() - start < 15
    assert done.stderr.count("\n") == 1 and "HF_HUB_OFFLINE=1" in done.stderr
