"""The state of a data set's repository at one commit: read it, check its files, download a config.

It holds configs of images, such as ``28``, and may hold feature stores, such as ``28-timm-resnet18.a1_in1k``.
"""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Self

import yaml
from huggingface_hub import HfApi, constants
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from medmnist_hf.catalog import config_order, is_config_name
from medmnist_hf.documents import parse_json, parse_yaml
from medmnist_hf.errors import BuildError, HubError, VerificationError
from medmnist_hf.hub.client import MAIN, call_with_retries
from medmnist_hf.hub.tree import RemoteTree, download_files, read_file, read_tree
from medmnist_hf.manifest import (
    AUDIT_NAME,
    MANIFEST_NAME,
    README_NAME,
    Manifest,
    Shard,
    parse_manifest,
)
from medmnist_hf.typed_json import Name, decode

_STORE: Final = re.compile(r"(\d+-[^/]+)/.+")


@dataclass(frozen=True, slots=True)
class StoreFiles:
    """What a push needs to know of a feature store, whose manifest `medmnist_hf.embeddings` defines.

    Attributes:
        subset: Flag of the subset.
        shards: The files of all splits.
        text: The manifest.
    """

    subset: str
    shards: tuple[Shard, ...]
    text: bytes

    @classmethod
    def parse(cls, text: bytes, where: str) -> Self:
        """Parse a manifest.

        Args:
            text: Its content.
            where: Its name in the error.

        Raises:
            HubError: It is not valid.
        """
        try:
            table = decode(parse_json(text), dict[str, Any])
            splits = decode(table.get("splits"), dict[Name, dict[str, Any]], "splits")
            shards = [
                shard
                for name, split in splits.items()
                for shard in decode(split.get("shards"), tuple[Shard, ...], f"splits.{name}.shards")
            ]
            return cls(decode(table.get("subset"), Name, "subset"), tuple(shards), text)
        except ValueError as error:
            raise HubError(f"{where} is not a valid manifest of features ({error}): push the store again") from None


@dataclass(frozen=True, slots=True)
class RemoteState(RemoteTree):
    """Content of a data set's repository at one revision.

    Attributes:
        manifests: The configs, by ascending size.
        audits: Config name -> content of its audit.
        stores: Config name -> feature store.
        card: Text of the card; empty without one.
    """

    manifests: tuple[Manifest, ...]
    audits: dict[str, bytes]
    stores: dict[str, StoreFiles]
    card: str

    @property
    def shards(self) -> dict[str, Shard]:
        """Path -> record in the manifest, for the shards of all configs."""
        configs = {manifest.config_name: manifest.shards for manifest in self.manifests}
        configs |= {name: store.shards for name, store in self.stores.items()}
        return {f"{name}/{shard.name}": shard for name, shards in configs.items() for shard in shards}


def config_of(path: str) -> str | None:
    """Return the name of the config of images that a file belongs to; None for a file outside of these."""
    name, slash, _ = path.partition("/")
    return name if slash and is_config_name(name) else None


def store_of(path: str) -> str | None:
    """Return the name of the feature store that a file belongs to; None for a file outside of these."""
    match = _STORE.fullmatch(path)
    return match[1] if match and not is_config_name(match[1]) else None


def read_state(api: HfApi, repo_id: str, revision: str = MAIN, *, missing_ok: bool = False) -> RemoteState:
    """Read a revision of a data set's repository; arguments as in `read_tree`.

    Raises:
        HubError: The repository cannot be read, or a manifest is not valid.
    """
    tree = read_tree(api, repo_id, revision, repo_type=constants.REPO_TYPE_DATASET, missing_ok=missing_ok)
    files = tree.files
    manifests: dict[str, Manifest] = {}
    audits: dict[str, bytes] = {}
    for config in sorted({config for path in files if (config := config_of(path))}, key=config_order):
        if f"{config}/{MANIFEST_NAME}" not in files:
            continue
        text = read_file(api, tree, f"{config}/{MANIFEST_NAME}")
        try:
            manifests[config] = parse_manifest(text, f"{repo_id}/{config}/{MANIFEST_NAME}", "push the config again")
        except BuildError as error:
            raise HubError(str(error)) from None
        if f"{config}/{AUDIT_NAME}" in files:
            audits[config] = read_file(api, tree, f"{config}/{AUDIT_NAME}")
    stores = {}
    for name in sorted({name for path in files if (name := store_of(path))}, key=lambda name: (_size_of(name), name)):
        path = f"{name}/{MANIFEST_NAME}"
        if path in files:
            stores[name] = StoreFiles.parse(read_file(api, tree, path), f"{repo_id}/{path}")
    card = read_file(api, tree, README_NAME).decode() if README_NAME in files else ""
    listing = {field.name: getattr(tree, field.name) for field in fields(tree)}
    return RemoteState(**listing, manifests=tuple(manifests.values()), audits=audits, stores=stores, card=card)


def _size_of(store: str) -> int:
    return int(store.partition("-")[0])


def check_state(state: RemoteState) -> None:
    """Check that a commit is complete: all shards present by size and SHA-256, no others, all configs on the card.

    Raises:
        VerificationError: A file is missing, unexpected or different; the message names it.
    """
    where = f"{state.repo_id} at {state.sha[:12]}"
    expected = state.shards
    for path, shard in expected.items():
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
    if names != [*(manifest.config_name for manifest in state.manifests), *state.stores]:
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


_SECTION: Final = re.compile("\n<!-- feature stores -->\n.*?<!-- end of feature stores -->\n", re.DOTALL)


def store_section(text: str) -> str:
    """Mark a part of a card as its description of feature stores, which `with_stores` finds."""
    return f"\n<!-- feature stores -->\n{text}\n<!-- end of feature stores -->\n"


def with_stores(card: str, of: str, where: str) -> str:
    """Describe feature stores on a card of images, in place of those that it describes; all else stays as it is.

    Args:
        card: The card of images.
        of: A card that describes the stores, and perhaps other images; without stores, those of `card` are removed.
        where: Name of the repository in errors.

    Raises:
        VerificationError: The metadata of a card is not valid.
    """
    head, other = card_head(card, where), card_head(of, where)
    for key in ("configs", "dataset_info"):
        added = [
            {name: value for name, value in entry.items() if name != "default"} for entry in _stores_in(other, key)
        ]
        old = _stores_in(head, key)
        if added or old:
            head[key] = [*(entry for entry in _entries(head, key) if entry not in old), *added]
    block, section = REGEX_YAML_BLOCK.search(card), _SECTION.search(of)
    assert block is not None  # `card_head` has read it
    body = _SECTION.sub("", card[block.end(2) :]) + (section[0] if section else "")
    return f"{card[: block.start(2)]}{yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip()}{body}"


def _entries(head: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The entries of ``configs`` or ``dataset_info``; the latter may be a single one."""
    entries = head.get(key) or []
    return entries if isinstance(entries, list) else [entries]


def _stores_in(head: dict[str, Any], key: str) -> list[dict[str, Any]]:
    return [entry for entry in _entries(head, key) if store_of(f"{entry.get('config_name')}/*")]


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
