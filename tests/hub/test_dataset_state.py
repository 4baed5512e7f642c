"""Reading a repository: errors in one line without a token, patience with limits, damage found."""

import pytest
from huggingface_hub.errors import HfHubHTTPError

from medmnist_hf.errors import HubError, VerificationError
from medmnist_hf.hub.client import in_words, patiently, wait_before
from medmnist_hf.hub.dataset_state import card_head, check_state, read_state
from tests.fixtures.hub.server import Fault, HubServer
from tests.fixtures.pushing import ID, KIND, Pusher


def refusal(hub: HubServer, status: int, **headers: str) -> HfHubHTTPError:
    """What the real client makes of an answer."""
    hub.faults.add(Fault("GET", "whoami", status=status, message="no hf_abcdefghij here", headers=headers))
    with pytest.raises(HfHubHTTPError) as caught:
        hub.api().whoami()
    return caught.value


@pytest.mark.parametrize(
    ("status", "advice"),
    [(401, "hf auth login"), (403, "write access"), (404, "check the name"), (412, "run again"), (418, "arguments")],
)
def test_a_refusal_is_one_line_without_a_token(hub: HubServer, status: int, advice: str) -> None:
    told = str(in_words("do it", refusal(hub, status)))
    assert told.startswith(f"cannot do it (HTTP {status}") and advice in told
    assert "\n" not in told and "hf_abc" not in told


def test_a_wait_of_an_hour_is_left_to_the_person(hub: HubServer) -> None:
    assert not wait_before(refusal(hub, 429, **{"Retry-After": "3600"}), 0)
    assert wait_before(refusal(hub, 429, **{"Retry-After": "0"}), 9)


def test_patience_ends(pusher: Pusher) -> None:
    fault = pusher.hub.faults.add(Fault("GET", "/refs", times=-1, status=503))
    with pytest.raises(HubError, match=r"cannot look \(HTTP 503") as caught:
        patiently("look", lambda: pusher.api.list_repo_refs(ID, repo_type=KIND), tries=3)
    assert fault.hits == 3 and caught.value.status == 503


def test_no_network() -> None:
    with pytest.raises(HubError, match=r"cannot look \(refused\): check the network"):
        patiently("look", lambda: (_ for _ in ()).throw(ConnectionRefusedError("refused")), tries=1)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"28/test-9.parquet": b"PAR1"}, "in no manifest"),
        ({"load.py": b"1"}, "refuses code"),
        ({"README.md": b"# none"}, "no card with metadata"),
        ({"README.md": b'---\nconfigs:\n- config_name: "64"\n---\n'}, "a card with the configs 64"),
    ],
)
def test_what_is_wrong_with_a_commit_is_found(pusher: Pusher, change: dict[str, bytes], error: str) -> None:
    pusher.push("28")
    check_state(read_state(pusher.api, ID))
    pusher.hub.store.write(KIND, ID, change)
    with pytest.raises(VerificationError, match=error):
        check_state(read_state(pusher.api, ID))


def test_a_manifest_that_is_none_is_found(pusher: Pusher) -> None:
    pusher.push("28")
    pusher.hub.store.write(KIND, ID, {"28/manifest.json": b"{}"})
    with pytest.raises(HubError, match=r"no readable 28/manifest\.json"):
        read_state(pusher.api, ID)


def test_what_is_missing_may_be_allowed_for(pusher: Pusher) -> None:
    assert not read_state(pusher.api, ID, may_lack=True).exists
    made = pusher.push("28").sha
    state = read_state(pusher.api, ID, "next", may_lack=True)
    assert (state.exists, state.has_branch, state.sha) == (True, False, made)
    for name, revision in (("org/none", "main"), (ID, "next")):
        with pytest.raises(HubError, match="no such repository or revision"):
            read_state(pusher.api, name, revision)


@pytest.mark.parametrize("head", ["configs: [", "- 1", "a: 1", "configs: 1", "configs:\n- config_name: 28"])
def test_a_bad_head_of_a_card(head: str) -> None:
    with pytest.raises(VerificationError) as caught:
        card_head(f"---\n{head}\n---\n", "it")
    assert "\n" not in str(caught.value)
