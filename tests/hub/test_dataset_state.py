"""Reading a data set's repository: faults are found, and missing parts can be allowed."""

import pytest

from medmnist_hf.errors import HubError, VerificationError
from medmnist_hf.hub.dataset_state import card_head, check_state, read_state
from tests.fixtures.pushing import ID, KIND, Pusher


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"28/test-9.parquet": b"PAR1"}, "in no manifest"),
        ({"load.py": b"1"}, "refuses code"),
        ({"README.md": b"# none"}, "no card with metadata"),
        ({"README.md": b'---\nconfigs:\n- config_name: "64"\n---\n'}, "a card with the configs 64"),
    ],
)
def test_faults_of_a_commit_are_found(pusher: Pusher, change: dict[str, bytes], error: str) -> None:
    pusher.push("28")
    check_state(read_state(pusher.api, ID))
    pusher.hub.store.write(KIND, ID, change)
    with pytest.raises(VerificationError, match=error):
        check_state(read_state(pusher.api, ID))


def test_an_invalid_manifest_is_found(pusher: Pusher) -> None:
    pusher.push("28")
    pusher.hub.store.write(KIND, ID, {"28/manifest.json": b"{}"})
    with pytest.raises(
        HubError, match=r"^\S*28/manifest\.json is not a valid build manifest \(.*\): push the config again$"
    ):
        read_state(pusher.api, ID)


def test_a_missing_repository_or_branch_can_be_allowed(pusher: Pusher) -> None:
    missing = read_state(pusher.api, ID, missing_ok=True)
    assert (missing.exists, missing.manifests, missing.audits, missing.card) == (False, (), {}, "")
    sha = pusher.push("28").sha
    state = read_state(pusher.api, ID, "next", missing_ok=True)
    assert (state.exists, state.has_branch, state.sha) == (True, False, sha)
    assert [manifest.size for manifest in state.manifests] == [28] and state.card.startswith("---")
    with pytest.raises(HubError, match="no such repository or revision"):
        read_state(pusher.api, ID, "next")


@pytest.mark.parametrize("head", ["configs: [", "- 1", "a: 1", "configs: 1", "configs:\n- config_name: 28"])
def test_invalid_metadata_of_a_card(head: str) -> None:
    with pytest.raises(VerificationError) as caught:
        card_head(f"---\n{head}\n---\n", "it")
    assert "\n" not in str(caught.value)
