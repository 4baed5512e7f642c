"""Push a build to the repository of its subset.

What is on the Hub already is merged: the card of a push describes the configs that stay as well as those that come.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from huggingface_hub import HfApi

from medmnist_hf.hub.client import call_with_retries
from medmnist_hf.hub.commit import Pushed, changed_meanwhile, commit_plan
from medmnist_hf.hub.dataset_plan import Describe, Plan, PushOptions, compare
from medmnist_hf.hub.dataset_state import RemoteState, check_state, read_state
from medmnist_hf.hub.local_build import LocalBuild

COLLECTION_ABOUT: Final = "MedMNIST: standardized biomedical images in 2D and 3D, typed Parquet at all sizes."


def push(
    api: HfApi,
    build: LocalBuild,
    plan: Plan,
    options: PushOptions,
    describe: Describe,
    *,
    on_progress: Callable[[int], object] = lambda count: None,
) -> Pushed:
    """Carry a plan out as `commit_plan` does; where another push comes in between, its configs stay.

    Args:
        api: The client.
        build: As planned.
        plan: As it was shown.
        options: As planned.
        describe: As planned.
        on_progress: Called with a number of bytes that are up, whether sent now or there already.

    Raises:
        HubError: The Hub refuses or cannot be reached, or another push changed the same configs.
        VerificationError: What is on the Hub then is not the build; the tag is not set.
    """

    def read_back(revision: str) -> RemoteState:
        state = read_state(api, options.repo_id, revision)
        check_state(state)
        return state

    return commit_plan(
        api,
        plan,
        options,
        title=f"Push {build.subset.flag} at size {', '.join(manifest.config_name for manifest in build.manifests)}",
        compare=lambda: compare(read_state(api, options.repo_id, options.revision), build, options, describe),
        read_back=read_back,
        check_rival=partial(_check_configs, build),
        proposed=plan.proposed,
        on_progress=on_progress,
    )


def _check_configs(build: LocalBuild, planned: Plan, now: Plan) -> None:
    """Another push may add configs; one of ours that it changed is for a person to decide."""
    before = {manifest.config_name: manifest for manifest in planned.state.manifests}
    after = {manifest.config_name: manifest for manifest in now.state.manifests}
    for ours in build.manifests:
        name = ours.config_name
        if name in after and after[name] not in (ours, before.get(name)):
            raise changed_meanwhile(now, name)


def add_to_collection(api: HfApi, title: str, namespace: str, repo_ids: Sequence[str], *, private: bool) -> str:
    """Put data sets into a collection, which is made where there is none of that title.

    Args:
        api: The client.
        title: Title of the collection.
        namespace: User or organization it belongs to.
        repo_ids: Repositories, in order; those in it already stay where they are.
        private: A collection that is made is private.

    Returns:
        Its slug, which follows ``collections/`` in its address.

    Raises:
        HubError: The Hub refuses or cannot be reached.
    """
    what = f"make the collection {title!r} of {namespace}"
    make = partial(api.create_collection, title, namespace=namespace, description=COLLECTION_ABOUT, exists_ok=True)
    slug = call_with_retries(what, lambda: make(private=private)).slug
    items = {item.item_id for item in call_with_retries(what, lambda: api.get_collection(slug)).items}
    for repo_id in repo_ids:
        if repo_id not in items:
            add = partial(api.add_collection_item, slug, repo_id, "dataset", exists_ok=True)
            call_with_retries(f"add {repo_id} to the collection {title!r}", add)
    return slug
