"""Valid and invalid repository ids."""

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # not declared as exported

from medmnist_hf.errors import HubError
from medmnist_hf.hub.repo_id import split_repo_id, split_revision

GOOD = ["org/name", "me/a.b-c_d", "0/1", "_a/b_", "org/" + "x" * 96]
BAD = ["name", "", "/name", "org/", "a/b/c", "org/a b", "org/-x", "org/x-", "-org/x", "org/x.git", "org/a--b"]
BAD += ["org/a..b", "..", "../x", "http://org/x", "org/x\n", "org/" + "x" * 97, "örg/x"]


@pytest.mark.parametrize("repo_id", GOOD)
def test_a_valid_id_is_split_and_accepted_by_the_client(repo_id: str) -> None:
    validate_repo_id(repo_id)
    assert split_repo_id(repo_id) == tuple(repo_id.split("/"))
    assert split_revision(repo_id) == (repo_id, None)


@pytest.mark.parametrize("repo_id", BAD)
def test_an_invalid_id_is_refused_in_one_line(repo_id: str) -> None:
    with pytest.raises(HubError, match=r"is not a valid repository: name it NAMESPACE/NAME$") as caught:
        split_repo_id(repo_id)
    assert "\n" not in str(caught.value) and split_revision(repo_id) is None
    if "/" in repo_id and repo_id.isascii():  # the client also accepts names alone and letters of any script
        with pytest.raises(HFValidationError):
            validate_repo_id(repo_id)


def test_a_required_name() -> None:
    assert split_repo_id("org/medmnist", "medmnist") == ("org", "medmnist")
    with pytest.raises(HubError, match=r"'org/other' .* name it NAMESPACE/medmnist, so that evaluate can find it"):
        split_repo_id("org/other", "medmnist", "evaluate")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("me/x@v1.0", ("me/x", "v1.0")),
        ("me/x@refs/pr/1", ("me/x", "refs/pr/1")),
        ("me/x@", None),
        ("dist/pathmnist/28", None),
        ("dist", None),
    ],
)
def test_a_revision_follows_an_at_sign(text: str, expected: tuple[str, str] | None) -> None:
    assert split_revision(text) == expected
