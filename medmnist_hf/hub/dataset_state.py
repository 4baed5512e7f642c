"""A data set's repository as it stands at one commit: read with patience, checked file by file, fetched."""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from huggingface_hub import HfApi, constants
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from medmnist_hf.documents import parse_yaml
from medmnist_hf.errors import BuildError, HubError, VerificationError
from medmnist_hf.hub.client import MAIN, call_with_retries
from medmnist_hf.hub.tree import RemoteTree, download_files, read_file, read_tree
from medmnist_hf.manifest import (
    AUDIT_NAME,
    MANIFEST_NAME,
    README_NAME,
    Manifest,
    parse_manifest,
)
from medmnist_hf.typed_json import Name, decode

_CONFIG: Final = re.compile(r"(\d+)/.+")


@dataclass(frozen=True, slots=True)
class RemoteState(RemoteTree):
    """What a revision of a data set's repository holds.

    Attributes:
        manifests: The configs, by ascending size.
        audits: Config name -> content of its audit.
        card: Text of the card; empty without one.
    """

    manifests: tuple[Manifest, ...]
    audits: dict[str, bytes]
    card: str


def config_of(path: str) -> str | None:
    """Name of the config that a file of a repository belongs to; None for a file beside the configs."""
    match = _CONFIG.fullmatch(path)
    return match[1] if match else None


def read_state(api: HfApi, repo_id: str, revision: str = MAIN, *, missing_ok: bool = False) -> RemoteState:
    """Read a revision of a data set; arguments as in `read_tree`.

    Raises:
        HubError: It cannot be read, or has data that no manifest describes.
    """
    tree = read_tree(api, repo_id, revision, repo_type=constants.REPO_TYPE_DATASET, missing_ok=missing_ok)
    files = tree.files
    manifests: dict[str, Manifest] = {}
    audits: dict[str, bytes] = {}
    for config in sorted({config for path in files if (config := config_of(path))}, key=int):
        if f"{config}/{MANIFEST_NAME}" not in files:
            continue
        text = read_file(api, tree, f"{config}/{MANIFEST_NAME}")
        try:
            manifests[config] = parse_manifest(text, f"{repo_id}/{config}/{MANIFEST_NAME}", "push the config again")
        except BuildError as error:
            raise HubError(str(error)) from None
        if f"{config}/{AUDIT_NAME}" in files:
            audits[config] = read_file(api, tree, f"{config}/{AUDIT_NAME}")
    card = read_file(api, tree, README_NAME).decode() if README_NAME in files else ""
    listing = {field.name: getattr(tree, field.name) for field in fields(tree)}
    return RemoteState(**listing, manifests=tuple(manifests.values()), audits=audits, card=card)


def check_state(state: RemoteState) -> None:
    """Prove that a commit is whole: each shard there by size and SHA-256, none beside them, each config on the card.

    Raises:
        VerificationError: Something differs; the message names the file.
    """
    where = f"{state.repo_id} at {state.sha[:12]}"
    known: set[str] = set()
    for manifest in state.manifests:
        for shard in manifest.shards:
            path = f"{manifest.config_name}/{shard.name}"
            known.add(path)
            file = state.files.get(path)
            if file is None:
                raise VerificationError(f"{where} lacks {path}: push again")
            if (file.size, file.sha256) != (shard.bytes, shard.sha256):
                raise VerificationError(f"{where} has a {path} that is not the manifest's: push again")
    for path in sorted(state.files):
        if path.endswith(".parquet") and path not in known:
            raise VerificationError(f"{where} has {path}, which is in no manifest: push with --prune")
        if path.endswith(".py"):
            raise VerificationError(f"{where} has {path}, and load_dataset refuses code: push with --prune")
    names = config_names(state.card, where)
    if names != [manifest.config_name for manifest in state.manifests]:
        raise VerificationError(f"{where} has a card with the configs {', '.join(names)}: push again")


def card_head(card: str, where: str) -> dict[str, Any]:
    """The metadata of a card whose configs are named by strings.

    Raises:
        VerificationError: Its head is no valid YAML, lists no configs or names one by anything but a string.
    """
    block = REGEX_YAML_BLOCK.search(card)
    if block is None:
        raise VerificationError(f"{where} has no card with metadata: push again")
    try:
        head: dict[str, Any] = decode(parse_yaml(block[2]), dict[str, Any], "the head")
        for config in decode(head.get("configs"), tuple[dict[str, Any], ...], "configs"):
            decode(config.get("config_name"), Name, "config_name")
    except ValueError as error:
        raise VerificationError(f"{where} has a card without valid metadata ({error}): render it again") from None
    return head


def config_names(card: str, where: str) -> list[str]:
    """Names of the configs on a card, in its order; errors as in `card_head`."""
    return [config["config_name"] for config in card_head(card, where)["configs"]]


def fetch_config(api: HfApi, state: RemoteState, manifest: Manifest) -> Path:
    """Download one config and the card of a commit into the user's cache, resuming what is there.

    Returns:
        The config's folder, as ``medmnist-hf build`` would have left it.

    Raises:
        HubError: It cannot be downloaded.
    """
    wanted = [README_NAME, *(path for path in state.files if config_of(path) == manifest.config_name)]
    folder = call_with_retries(
        f"download {state.repo_id}",
        lambda: download_files(
            state.repo_id,
            state.sha,
            wanted,
            repo_type=constants.REPO_TYPE_DATASET,
            endpoint=api.endpoint,
            token=api.token,
            cache_dir=constants.HF_HUB_CACHE,
        ),
    )
    return folder / manifest.config_name
