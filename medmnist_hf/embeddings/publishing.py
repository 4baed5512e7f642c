"""Push feature stores to a repository on the Hub, in which configs of images stay as they are.

A store is pushed as a config of its own, such as ``28-timm-resnet18.a1_in1k``. In a repository that holds images, the
card keeps all that it says of them, and gets the configs of the stores and a section about them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from huggingface_hub import HfApi

from medmnist_hf import catalog
from medmnist_hf.catalog import Subset
from medmnist_hf.embeddings.card import read_stores, render_card
from medmnist_hf.embeddings.manifest import REMEDY, StoreManifest, parse_store
from medmnist_hf.embeddings.stores import STORES
from medmnist_hf.errors import BuildError, HubError
from medmnist_hf.hub.commit import Pushed, changed_meanwhile, commit_plan
from medmnist_hf.hub.dataset_plan import (
    Plan,
    PushOptions,
    check_existing_files,
    check_options,
    check_stores,
    checked_plan,
)
from medmnist_hf.hub.dataset_state import RemoteState, check_state, read_state, store_of, with_stores
from medmnist_hf.hub.files import PushFile
from medmnist_hf.hub.local_build import check_origin, config_files
from medmnist_hf.hub.plan import Change, changes_of
from medmnist_hf.hub.repo_id import split_repo_id
from medmnist_hf.manifest import MANIFEST_NAME, README_NAME


@dataclass(frozen=True, slots=True)
class LocalStores:
    """The feature stores of one subset.

    Attributes:
        subset: The subset.
        manifests: Config name -> manifest.
        files: Path in the repository -> file; the shards and manifests of all stores.
    """

    subset: Subset
    manifests: dict[str, StoreManifest]
    files: dict[str, PushFile] = field(default_factory=dict)


def read_local_stores(folder: Path, *, allow_synthetic: bool = False, allow_unverified: bool = False) -> LocalStores:
    """Read the stores of a subset and check them; every shard is hashed, so that no damaged file is pushed.

    Args:
        folder: Folder of one subset, written by ``medmnist-hf embed``.
        allow_synthetic: Accept features of generated images.
        allow_unverified: Accept images from a source whose MD5 differs from the catalog's.

    Raises:
        BuildError: A store differs from its manifest, or needs one of the flags.
    """
    manifests = read_stores(folder)
    if not manifests:
        raise BuildError(f"no features in {folder}: run medmnist-hf embed")
    stores = LocalStores(
        catalog.subset(manifests[0].subset), {manifest.config_name: manifest for manifest in manifests}
    )
    for path in sorted(path.parent for path in folder.glob(STORES)):
        if path.name not in stores.manifests:
            raise BuildError(f"{path} is not named by the size and model of its features: {REMEDY}")
    for manifest in manifests:
        path = folder / manifest.config_name
        if manifest.subset != stores.subset.flag:
            raise BuildError(f"{path} holds features of {manifest.subset}: name folders by subset")
        check_origin(manifest.source, path, allow_synthetic, allow_unverified)
        stores.files.update(config_files(path, manifest.shards, REMEDY))
    return stores


def plan_stores(api: HfApi, stores: LocalStores, options: PushOptions) -> Plan:
    """Compare stores with a repository on the Hub without changing anything.

    Args:
        api: The client.
        stores: Checked stores.
        options: Where and how to push; `PushOptions.prune` removes other stores, but no images.

    Raises:
        BuildError: The options contradict each other.
        HubError: The repository cannot be read, or holds files that a push must not touch.
        VerificationError: The card of the repository is not valid.
    """
    split_repo_id(options.repo_id)
    check_options(options)
    state = read_state(api, options.repo_id, options.revision, missing_ok=True)
    return checked_plan(api, compare_stores(state, stores, options), options)


def compare_stores(state: RemoteState, stores: LocalStores, options: PushOptions) -> Plan:
    """Compare stores with the state of a repository; arguments and errors as in `plan_stores`."""
    pushed = stores.manifests.keys()
    check_stores(state, stores.subset.flag)
    for images in state.manifests:
        if images.entry.base != stores.subset.flag:
            raise HubError(f"{state.repo_id} holds {images.subset}: push to another repository")
    incomplete = {name for path in state.files if (name := store_of(path))} if options.prune else set()
    check_existing_files(state, stores.subset.flag, pushed | incomplete)
    kept = {} if options.prune else {name: store for name, store in state.stores.items() if name not in pushed}
    remote = {name: parse_store(store.text, f"{state.repo_id}/{name}") for name, store in kept.items()}
    union = sorted((remote | stores.manifests).values(), key=lambda manifest: (manifest.size, manifest.config_name))
    card = render_card(union, options.repo_id)
    if state.manifests:
        card = with_stores(state.card, card, state.repo_id)
    files = stores.files | {README_NAME: PushFile.from_bytes(card.encode())}
    changes = changes_of(files, state.files)
    for path, file in state.files.items():
        if (name := store_of(path)) and name not in remote and path not in files:
            changes.append(Change(path, "removed", file.size))
    names = (*(manifest.config_name for manifest in state.manifests), *(each.config_name for each in union))
    return Plan(state, tuple(sorted(changes, key=lambda change: change.path)), files, names)


def push_stores(
    api: HfApi,
    stores: LocalStores,
    plan: Plan,
    options: PushOptions,
    *,
    on_progress: Callable[[int], object] = lambda count: None,
) -> Pushed:
    """Carry out a plan; configs that another push adds meanwhile are kept.

    Args:
        api: The client.
        stores: The stores of the plan.
        plan: The plan that the user has seen.
        options: The options of the plan.
        on_progress: As in `commit_plan`.

    Raises:
        HubError: The Hub refuses or cannot be reached, or another push changed the same stores.
        VerificationError: The pushed commit differs from the stores; the tag is not set.
    """

    def read_back(revision: str) -> RemoteState:
        state = read_state(api, options.repo_id, revision)
        check_state(state)
        return state

    return commit_plan(
        api,
        plan,
        options,
        title=f"Push features of {stores.subset.flag}: {', '.join(stores.manifests)}",
        compare=lambda: compare_stores(read_state(api, options.repo_id, options.revision), stores, options),
        read_back=read_back,
        check_rival=partial(_check_rival, stores),
        proposed=plan.proposed,
        on_progress=on_progress,
    )


def _check_rival(stores: LocalStores, planned: Plan, now: Plan) -> None:
    """Refuse if another push has changed a store that is pushed; it may add other configs."""
    for name in stores.manifests:
        after = now.state.stores.get(name)
        file = stores.files[f"{name}/{MANIFEST_NAME}"]
        if after not in (None, planned.state.stores.get(name)) and after.text != file.source:
            raise changed_meanwhile(now, name)
