"""A plan refuses invalid pushes before anything is changed."""

from collections.abc import Callable

import pytest

from medmnist_hf.errors import BuildError, HubError, MedMNISTError
from medmnist_hf.hub.dataset_plan import PushOptions, plan_push
from tests.fixtures.pushing import ID, KIND, Pusher, check_complete, describe


@pytest.mark.parametrize("repo_id", ["org/bloodmnist", "pathmnist", "a/b/pathmnist"])
def test_a_repository_of_another_name(pusher: Pusher, repo_id: str) -> None:
    with pytest.raises(HubError, match="is not a valid repository: name it NAMESPACE/pathmnist, so that load_dataset"):
        pusher.plan("28", PushOptions(repo_id))


def test_a_tag_on_a_pull_request(pusher: Pusher) -> None:
    with pytest.raises(BuildError, match="cannot be tagged"):
        pusher.plan("28", PushOptions(ID, create_pr=True, tag="v1"))


def test_a_card_that_does_not_match_the_build(pusher: Pusher) -> None:
    def describe_with(old: str, new: str) -> Callable[..., dict[str, str]]:
        return lambda *args: {path: text.replace(old, new) for path, text in describe(*args).items()}

    for old, new, error in (
        ("config_name: '28'", "config_name: 28", "must be text"),
        ("configs:", "configs: [", "without valid metadata"),
        ("- synthetic", "- other", "does not say so"),
        ("config_name: '28'", "config_name: '64'", "configs differ from its manifests"),
    ):
        with pytest.raises(MedMNISTError, match=error):
            plan_push(pusher.api, pusher.local("28"), PushOptions(ID), describe_with(old, new))
    assert not pusher.hub.store.repos


def test_a_repository_with_other_data(pusher: Pusher) -> None:
    pusher.hub.store.create(KIND, ID)
    pusher.hub.store.write(KIND, ID, {"128/train-0.parquet": b"PAR1"})
    with pytest.raises(HubError, match=r"128/train-0.parquet, which was not pushed by medmnist-hf"):
        pusher.plan("28")
    pusher.push("28", PushOptions(ID, prune=True))
    check_complete(pusher)


@pytest.mark.parametrize("who", ["reader", "outsider", "nobody", "expired"])
def test_users_without_permission(pusher: Pusher, who: str) -> None:
    hub = pusher.hub
    pusher.push("28")
    before = pusher.files()
    if who == "expired":
        hub.token.expired = True
    else:
        tokens = {"reader": hub.read_token, "outsider": hub.access.token("mallory")}
        pusher.api = hub.api(tokens.get(who), anonymous=who == "nobody")
    with pytest.raises(HubError, match=r"no token|write access|has expired") as caught:
        pusher.push("64")
    assert "\n" not in str(caught.value) and "hf_" not in str(caught.value)
    assert pusher.files() == before
