"""Push a build to the repository of its subset.

Configs that are on the Hub already are kept, and the pushed card describes them together with the new ones.
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
    """Carry out a plan with `commit_plan`; configs that another push adds meanwhile are kept.

    Args:
        api: The client.
        build: The build of the plan.
        plan: The plan that the user has seen.
        options: The options of the plan.
        describe: As in `plan_push`.
        on_progress: As in `commit_plan`.

    Raises:
        HubError: The Hub refuses or cannot be reached, or another push changed the same configs.
        VerificationError: The pushed commit differs from the build; the tag is not set.
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
    """Refuse if another push has changed a config of the build; it may add other configs."""
    before = {manifest.config_name: manifest for manifest in planned.state.manifests}
    after = {manifest.config_name: manifest for manifest in now.state.manifests}
    for manifest in build.manifests:
        name = manifest.config_name
        if name in after and after[name] not in (manifest, before.get(name)):
            raise changed_meanwhile(now, name)


def add_to_collection(api: HfApi, title: str, namespace: str, repo_ids: Sequence[str], *, private: bool) -> str:
    """Add data sets to a collection, which is created if there is none with that title.

    Args:
        api: The client.
        title: Title of the collection.
        namespace: User or organization that owns it.
        repo_ids: Repositories in order; those already in the collection keep their place.
        private: Create the collection as private.

    Returns:
        The slug of the collection, which follows ``collections/`` in its URL.

    Raises:
        HubError: The Hub refuses or cannot be reached.
    """
    what = f"create the collection {title!r} of {namespace}"
    create = partial(api.create_collection, title, namespace=namespace, description=COLLECTION_ABOUT, exists_ok=True)
    slug = call_with_retries(what, lambda: create(private=private)).slug
    items = {item.item_id for item in call_with_retries(what, lambda: api.get_collection(slug)).items}
    for repo_id in repo_ids:
        if repo_id not in items:
            add = partial(api.add_collection_item, slug, repo_id, "dataset", exists_ok=True)
            call_with_retries(f"add {repo_id} to the collection {title!r}", add)
    return slug
