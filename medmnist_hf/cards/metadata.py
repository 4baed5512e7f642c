"""The YAML header of a card, which the Hub indexes and `load_dataset` reads."""

import re
from collections.abc import Sequence
from typing import Any, Final

from datasets import DatasetInfo, SplitDict, SplitInfo
from huggingface_hub import DatasetCardData

from medmnist_hf.catalog import DEFAULT_SIZE, SPLITS, Subset, Task, collection
from medmnist_hf.errors import BuildError
from medmnist_hf.features import features_of
from medmnist_hf.hub.eval_results import TASK_CATEGORY
from medmnist_hf.manifest import Manifest, in_order

_SIZE_CATEGORIES: Final = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))


def check_manifests(subset: Subset, manifests: Sequence[Manifest]) -> tuple[Manifest, ...]:
    """Check that one card can describe these manifests, and sort them by `medmnist_hf.manifest.in_order`.

    Raises:
        BuildError: A manifest belongs to another subset or has other splits, or a config occurs twice.
        CatalogError: A size is not published for this subset.
    """
    ordered = in_order(manifests)
    for manifest in ordered:
        manifest.entry.file(manifest.size)
        if manifest.entry.base != subset.flag:
            raise BuildError(
                f"a build of {manifest.subset} is among those of {subset.flag}: use a separate folder for each subset"
            )
        if tuple(manifest.splits) != SPLITS:
            raise BuildError(
                f"the manifest of {manifest.name} has the splits {', '.join(manifest.splits) or 'none'} "
                f"instead of {', '.join(SPLITS)}: rebuild the config with --force"
            )
    if len({manifest.config_name for manifest in ordered}) < len(ordered):
        raise BuildError(f"two manifests of {subset.flag} have the same size: keep one build per size")
    return ordered


def synthetic_configs(manifests: Sequence[Manifest]) -> list[str]:
    """Names of the configs with generated pixels."""
    return [manifest.config_name for manifest in manifests if manifest.source.synthetic]


def describe_with_warning(subset: Subset, manifests: Sequence[Manifest]) -> str:
    """Describe a subset, with a warning first if any config has generated pixels."""
    synthetic = synthetic_configs(manifests)
    if synthetic and len(synthetic) == len(manifests):
        return f"SYNTHETIC, no real data; only the schema is that of the real data set: {subset.description}"
    if synthetic:
        return f"SYNTHETIC, no real data, in the configs {', '.join(synthetic)}. {subset.description}"
    return subset.description


def default_config(names: Sequence[str]) -> str:
    """Name of the config that `load_dataset` loads by default: ``28`` if it is built, else the first, the smallest."""
    return str(DEFAULT_SIZE) if str(DEFAULT_SIZE) in names else names[0]


def shard_pattern(config: str, split: str) -> str:
    """Glob of a split's shards within a repository, e.g. ``28/train-*``."""
    return f"{config}/{split}-*"


def tags(subset: Subset, *, synthetic: bool = False) -> list[str]:
    """Tags of the data set on the Hub."""
    modality = re.sub(r"[^a-z0-9]+", "-", subset.modality.lower()).strip("-")
    names = ["medical", "medmnist", modality, f"{subset.ndim}d", subset.task.value]
    return [*names, "synthetic"] if synthetic else names


def size_category(rows: int) -> str:
    """The Hub's size category for a number of rows."""
    return next((name for limit, name in _SIZE_CATEGORIES if rows < limit), "1M<n<10M")


def card_data(subset: Subset, manifests: Sequence[Manifest] = ()) -> DatasetCardData:
    """Collect the metadata of a card.

    Args:
        subset: A subset of the catalog.
        manifests: Manifests of its built configs, as returned by `check_manifests`; without any, all official sizes
            are described.

    Returns:
        Metadata whose config names are strings, with one ``dataset_info`` per config. Only built configs have byte
        counts and split sizes, because `datasets` accepts neither without the other.
    """
    described: list[tuple[Subset, int, Manifest | None]]
    described = [(each.entry, each.size, each) for each in manifests]
    described = described or [(subset, size, None) for size in subset.sizes]
    default = default_config([entry.config_name(size) for entry, size, _ in described])
    rows = max((_rows(manifest) for manifest in manifests), default=subset.counts.total)
    multi_label = subset.task is Task.MULTI_LABEL
    new_in_medmnist = subset.citations[0] in collection().citations
    return DatasetCardData(
        license=subset.license,
        pretty_name=subset.python_class,
        annotations_creators=[subset.annotations_creators],
        source_datasets=["original" if new_in_medmnist else "extended"],
        size_categories=[size_category(rows)],
        task_categories=[TASK_CATEGORY],
        task_ids=[f"multi-{'label' if multi_label else 'class'}-{TASK_CATEGORY}"],
        tags=tags(subset, synthetic=bool(synthetic_configs(manifests))),
        configs=[_config(entry.config_name(size), manifest, default) for entry, size, manifest in described],
        dataset_info=[_info(entry, size, manifest) for entry, size, manifest in described],
    )


def _rows(manifest: Manifest) -> int:
    return sum(record.rows for record in manifest.splits.values())


def _config(name: str, manifest: Manifest | None, default: str) -> dict[str, Any]:
    files = [{"split": split, "path": shard_pattern(name, split)} for split in SPLITS]
    config: dict[str, Any] = {"config_name": name, "data_files": files}
    if manifest is not None:
        # `datasets` caches a local folder under a hash of its configs and their info, not of its files. Without the
        # content ID it would load the cached copy of an earlier build that has the same counts and sizes.
        config["description"] = f"Content ID of the shards: {manifest.content_id}"
    return {**config, "default": True} if name == default else config


def _info(subset: Subset, size: int, manifest: Manifest | None) -> dict[str, Any]:
    added = manifest.added_names if manifest else ()
    info = DatasetInfo(config_name=subset.config_name(size), features=features_of(subset, size, added))
    if manifest is not None:
        info.splits = SplitDict(
            {
                split: SplitInfo(name=split, num_bytes=record.arrow_bytes, num_examples=record.rows)
                for split, record in manifest.splits.items()
            }
        )
        info.download_size = sum(shard.bytes for shard in manifest.shards)
        info.dataset_size = sum(record.arrow_bytes for record in manifest.splits.values())
    table = {key: value for key, value in info._to_yaml_dict().items() if value is not None}
    return {"config_name": table.pop("config_name"), **table}
