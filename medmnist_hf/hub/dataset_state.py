"""The state of a data set's repository at one commit: read it, check its files, download a config."""

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
    """Content of a data set's repository at one revision.

    Attributes:
        manifests: The configs, by ascending size.
        audits: Config name -> content of its audit.
        card: Text of the card; empty without one.
    """

    manifests: tuple[Manifest, ...]
    audits: dict[str, bytes]
    card: str


def config_of(path: str) -> str | None:
    """Return the name of the config that a file belongs to; None for a file outside the configs."""
    match = _CONFIG.fullmatch(path)
    return match[1] if match else None


def read_state(api: HfApi, repo_id: str, revision: str = MAIN, *, missing_ok: bool = False) -> RemoteState:
    """Read a revision of a data set's repository; arguments as in `read_tree`.

    Raises:
        HubError: The repository cannot be read, or a manifest is not valid.
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
    """Check that a commit is complete: all shards present by size and SHA-256, no others, all configs on the card.

    Raises:
        VerificationError: A file is missing, unexpected or different; the message names it.
    """
    where = f"{state.repo_id} at {state.sha[:12]}"
    expected: set[str] = set()
    for manifest in state.manifests:
        for shard in manifest.shards:
            path = f"{manifest.config_name}/{shard.name}"
            expected.add(path)
            file = state.files.get(path)
            if file is None:
                raise VerificationError(f"{where} lacks {path}: push again")
            if (file.size, file.sha256) != (shard.bytes, shard.sha256):
                raise VerificationError(f"{where} has a {path} that does not match the manifest: push again")
    for path in sorted(state.files):
        if path.endswith(".parquet") and path not in expected:
            raise VerificationError(f"{where} has {path}, which is in no manifest: push with --prune")
        if path.endswith(".py"):
            raise VerificationError(f"{where} has {path}, but load_dataset refuses code: push with --prune")
    names = config_names(state.card, where)
    if names != [manifest.config_name for manifest in state.manifests]:
        raise VerificationError(f"{where} has a card with the configs {', '.join(names)}: push again")


def card_head(card: str, where: str) -> dict[str, Any]:
    """Return the metadata of a card, which must list configs with strings as names.

    Raises:
        VerificationError: The metadata is missing or not valid YAML, or a config's name is not a string.
    """
    block = REGEX_YAML_BLOCK.search(card)
    if block is None:
        raise VerificationError(f"{where} has no card with metadata: push again")
    try:
        head: dict[str, Any] = decode(parse_yaml(block[2]), dict[str, Any], "the metadata")
        for config in decode(head.get("configs"), tuple[dict[str, Any], ...], "configs"):
            decode(config.get("config_name"), Name, "config_name")
    except ValueError as error:
        raise VerificationError(f"{where} has a card without valid metadata ({error}): render it again") from None
    return head


def config_names(card: str, where: str) -> list[str]:
    """Return the names of the configs on a card, in order; errors as in `card_head`."""
    return [config["config_name"] for config in card_head(card, where)["configs"]]


def fetch_config(api: HfApi, state: RemoteState, manifest: Manifest) -> Path:
    """Download a config and the card at a commit into the user's cache, resuming earlier downloads.

    Returns:
        The config's folder, with the same files as after ``medmnist-hf build``.

    Raises:
        HubError: The files cannot be downloaded.
    """
    names = [README_NAME, *(path for path in state.files if config_of(path) == manifest.config_name)]
    folder = call_with_retries(
        f"download {state.repo_id}",
        lambda: download_files(
            state.repo_id,
            state.sha,
            names,
            repo_type=constants.REPO_TYPE_DATASET,
            endpoint=api.endpoint,
            token=api.token,
            cache_dir=constants.HF_HUB_CACHE,
        ),
    )
    return folder / manifest.config_name
