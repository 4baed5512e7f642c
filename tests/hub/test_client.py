"""Calls of the Hub: retries with limits, and errors in one line without a token."""

import os
import time
from pathlib import Path

import pytest
from huggingface_hub import constants, set_client_factory
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import _http

from medmnist_hf.errors import HubError
from medmnist_hf.hub import client
from medmnist_hf.hub.client import (
    apply_hub_limits,
    call_with_retries,
    hub_limits,
    is_transient,
    reason_of,
    require_token,
    to_hub_error,
    wait_before,
)
from medmnist_hf.network import SilentServerError, UnreachableServerError, httpx
from tests.fixtures.hub.server import Fault, HubServer
from tests.fixtures.raw_server import BODY_DRIP, HEAD_DRIP, SILENT, Serve, raw_server


def refusal(hub: HubServer, status: int, **headers: str) -> HfHubHTTPError:
    """Return the error that the real client raises for a response."""
    hub.faults.add(Fault("GET", "whoami", status=status, message=f"no hf_{'Ab3' * 11} here", headers=headers))
    with pytest.raises(HfHubHTTPError) as caught:
        hub.api().whoami()
    return caught.value


@pytest.mark.parametrize(
    ("status", "advice"),
    [(401, "hf auth login"), (403, "write access"), (404, "check the name"), (412, "run again"), (418, "arguments")],
)
def test_a_refusal_is_one_line_without_a_token(hub: HubServer, status: int, advice: str) -> None:
    line = str(to_hub_error("do it", refusal(hub, status)))
    assert line.startswith(f"cannot do it (HTTP {status}") and advice in line
    assert "\n" not in line and "hf_" not in line


def test_the_users_token_is_redacted_whatever_its_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "an-odd-secret")
    assert str(to_hub_error("do it", UnreachableServerError("no connection"))).endswith(
        "check the network and run again"
    )
    assert str(to_hub_error("do it", OfflineModeIsEnabled("x"))).endswith(": unset HF_HUB_OFFLINE and run again")
    assert "an-odd-secret" not in str(to_hub_error("do it", OSError("an-odd-secret is not known")))


def test_a_wait_of_an_hour_is_not_slept(hub: HubServer) -> None:
    assert not wait_before(refusal(hub, 429, **{"Retry-After": "3600"}), 0)
    assert wait_before(refusal(hub, 429, **{"Retry-After": "0"}), 9)


def test_retries_end(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_WAIT", 0.01)
    fault = hub.faults.add(Fault("GET", "/refs", times=-1, status=503))
    with pytest.raises(HubError, match=r"cannot look \(HTTP 503") as caught:
        call_with_retries("look", lambda: hub.api().list_repo_refs("org/any"), tries=3)
    assert fault.hits == 3 and caught.value.status == 503


def test_no_network() -> None:
    with pytest.raises(HubError, match=r"cannot look \(refused\): check the network"):
        call_with_retries("look", lambda: (_ for _ in ()).throw(ConnectionRefusedError("refused")), tries=1)


def test_errors_in_reraise_are_not_converted() -> None:
    with pytest.raises(FileNotFoundError):
        call_with_retries(
            "look", lambda: (_ for _ in ()).throw(FileNotFoundError("gone")), reraise=(FileNotFoundError,)
        )


def test_writing_needs_a_token(hub: HubServer) -> None:
    require_token(hub.api())
    with pytest.raises(HubError, match="no token for the Hub: log in with `hf auth login`, or set HF_TOKEN"):
        require_token(hub.api(anonymous=True))


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_a_transient_status_is_retried(hub: HubServer, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setattr(client, "_FIRST_WAIT", 0.01)
    hub.faults.add(Fault("GET", "whoami", status=status))
    assert call_with_retries("look", hub.api().whoami)["name"] == "alice"


def test_a_reason_names_the_status_or_the_cause(hub: HubServer) -> None:
    assert reason_of(refusal(hub, 403)).startswith("HTTP 403 Forbidden, no ***")
    hub.faults.add(Fault("GET", "whoami", status=403, message=""))
    with pytest.raises(HfHubHTTPError) as caught:
        hub.api().whoami()
    assert reason_of(caught.value) == "HTTP 403 Forbidden"
    wrapped = LocalEntryNotFoundError("An error happened while trying to locate the file")
    wrapped.__cause__ = httpx.ReadTimeout("no data for 30 s")
    assert reason_of(wrapped) == "no data for 30 s"


def test_limits_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    assert (hub_limits().read, hub_limits().change, hub_limits().in_row) == (30, 120, 3)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 50)
    assert hub_limits().read == 50
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 2)
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "2")
    assert (hub_limits().read, hub_limits().change, hub_limits().window) == (2, 8, 4)


def test_a_client_factory_that_was_set_before_is_kept(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _http._GLOBAL_CLIENT_FACTORY
    monkeypatch.setenv("HF_XET_CLIENT_READ_TIMEOUT", "")  # restores the variable after the test
    del os.environ["HF_XET_CLIENT_READ_TIMEOUT"]
    try:
        set_client_factory(lambda: httpx.Client(headers={"x-mine": "1"}, timeout=None))
        apply_hub_limits.__wrapped__()
        assert _http.get_session().headers["x-mine"] == "1"
        assert hub.api().whoami()["name"] == "alice"
        assert os.environ["HF_XET_CLIENT_READ_TIMEOUT"] == f"{hub_limits().read:.0f}s"
    finally:
        set_client_factory(before)


def test_a_silent_server_gets_no_retry() -> None:
    assert is_transient(httpx.ReadTimeout("")) and not is_transient(SilentServerError(""))


def environment(url: str, home: Path) -> dict[str, str]:
    other_variables = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    seconds = {"HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_OFFLINE": "0"}
    hub = {"HF_ENDPOINT": url, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1", "HF_TOKEN": "a-secret"}
    return other_variables | seconds | hub


@pytest.mark.parametrize(
    "serve", [SILENT, *(pytest.param(serve, marks=pytest.mark.slow) for serve in (HEAD_DRIP, BODY_DRIP))]
)
def test_a_hub_that_never_responds_is_reported_in_one_line(hub: HubServer, tmp_path: Path, serve: Serve) -> None:
    start = time.monotonic()
    with raw_server(serve) as server:
        result = hub.script("scripts/verify.py", "org/pathmnist", env=environment(server.url, tmp_path), check=False)
        assert len(server.requests) == 3
    assert (result.returncode, result.stdout, result.stderr.count("error:")) == (1, "", 1)
    assert "read org/pathmnist (no complete response to 3 requests in a row): check the network" in result.stderr
    assert time.monotonic() - start < 60


READERS = {
    "load_arrays": "import medmnist_hf; medmnist_hf.load_arrays('pathmnist', 28, 'train')",
    "load": "import medmnist_hf; medmnist_hf.load('pathmnist', 28)",
    "labels": "from medmnist_hf.evaluation.labels import read_labels; read_labels('pathmnist', 28, 'test')",
}


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("serve", [SILENT, HEAD_DRIP, BODY_DRIP])
def test_no_reader_waits_forever_for_the_hub(hub: HubServer, tmp_path: Path, serve: Serve, reader: str) -> None:
    with raw_server(serve) as server:
        result = hub.python(READERS[reader], env=environment(server.url, tmp_path), check=False, timeout=100)
    assert result.returncode == 1 and "Error: " in result.stderr.splitlines()[-1]
