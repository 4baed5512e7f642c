"""Calls of the Hub: errors in one line without a token, patience with limits."""

import pytest
from huggingface_hub.errors import HfHubHTTPError

from medmnist_hf.errors import HubError
from medmnist_hf.hub import client
from medmnist_hf.hub.client import patiently, require_token, to_hub_error, wait_before
from tests.fixtures.hub.server import Fault, HubServer


def refusal(hub: HubServer, status: int, **headers: str) -> HfHubHTTPError:
    """What the real client makes of an answer."""
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


def test_the_own_token_is_redacted_whatever_it_looks_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "an-odd-secret")
    assert "an-odd-secret" not in str(to_hub_error("do it", OSError("an-odd-secret is not known")))


def test_a_wait_of_an_hour_is_left_to_the_person(hub: HubServer) -> None:
    assert not wait_before(refusal(hub, 429, **{"Retry-After": "3600"}), 0)
    assert wait_before(refusal(hub, 429, **{"Retry-After": "0"}), 9)


def test_patience_ends(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_WAIT", 0.01)
    fault = hub.faults.add(Fault("GET", "/refs", times=-1, status=503))
    with pytest.raises(HubError, match=r"cannot look \(HTTP 503") as caught:
        patiently("look", lambda: hub.api().list_repo_refs("org/any"), tries=3)
    assert fault.hits == 3 and caught.value.status == 503


def test_no_network() -> None:
    with pytest.raises(HubError, match=r"cannot look \(refused\): check the network"):
        patiently("look", lambda: (_ for _ in ()).throw(ConnectionRefusedError("refused")), tries=1)


def test_errors_that_pass_are_raised_as_they_are() -> None:
    with pytest.raises(FileNotFoundError):
        patiently("look", lambda: (_ for _ in ()).throw(FileNotFoundError("gone")), passing=(FileNotFoundError,))


def test_who_writes_needs_a_token(hub: HubServer) -> None:
    require_token(hub.api())
    with pytest.raises(HubError, match="no token for the Hub: log in with `hf auth login`, or set HF_TOKEN"):
        require_token(hub.api(anonymous=True))
