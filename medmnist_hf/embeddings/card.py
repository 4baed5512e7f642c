"""The card of the feature stores of one subset: ``README.md``, whose metadata `load_dataset` and the Hub read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from datasets import DatasetInfo, SplitDict, SplitInfo
from huggingface_hub import DatasetCardData

from medmnist_hf import catalog
from medmnist_hf.catalog import SPLITS, Subset
from medmnist_hf.embeddings.manifest import StoreManifest, read_store
from medmnist_hf.embeddings.stores import STORES
from medmnist_hf.features import embedding_features_of
from medmnist_hf.files import write_atomically
from medmnist_hf.hub.dataset_state import store_section
from medmnist_hf.manifest import README_NAME

_TEXT: Final = """---
{metadata}
---

# Features of {name}
{section}
## Citation

```bibtex
{citation}
```
"""

_SECTION: Final = """## Features by frozen models
{warning}
Features of the images of {name} ({modality}), one config per model and size of images. A row holds `features`, what
the classifier of the model sees of the image, and `label`. Row k of a shard is row k of the shard of the same name of
the images, which are from {homepage}.

| config | model | weights | input | features | rows | images |
| --- | --- | --- | --- | --- | ---: | --- |
{table}

```python
from datasets import load_dataset

load_dataset("{place}", "{default}", split="test").with_format("numpy"){where}

import medmnist_hf

features, labels = medmnist_hf.load_features("{flag}", {size}, "test", root="{root}", model="{model}")
```

Features are derived from the images, whose license is [{license}]({license_url}), and from the weights of the model,
whose license also applies. `manifest.json` of each config records the digests of the weights, of the images and of
every file, and the versions of the libraries."""


def read_stores(folder: Path) -> list[StoreManifest]:
    """The manifests of all stores in the folder of a subset, by size and model.

    Raises:
        BuildError: A manifest cannot be read or is not valid.
    """
    manifests = [read_store(path.parent) for path in folder.glob(STORES)]
    return sorted(manifests, key=lambda manifest: (manifest.size, manifest.config_name))


def write_card(folder: Path) -> None:
    """Write the card of the stores in the folder of a subset.

    Raises:
        BuildError: A manifest cannot be read or is not valid.
        OSError: The card cannot be written.
    """
    write_atomically(folder / README_NAME, render_card(read_stores(folder)))


def render_card(manifests: Sequence[StoreManifest], repo_id: str | None = None) -> str:
    """Render the card of stores of one subset.

    Args:
        manifests: Their manifests, at least one.
        repo_id: Repository on the Hub that the examples load; None for a folder of stores.
    """
    entry, first = catalog.subset(manifests[0].subset), manifests[0]
    shared = catalog.collection()
    warnings = dict.fromkeys(filter(None, (manifest.provenance.warning for manifest in manifests)))
    section = _SECTION.format(
        name=entry.python_class,
        warning="".join(f"\n> {warning}\n" for warning in warnings),
        modality=entry.modality,
        homepage=shared.homepage,
        table="\n".join(map(_line, manifests)),
        flag=entry.flag,
        place=repo_id or entry.flag,
        where="" if repo_id else "  # in this folder of stores",
        root=repo_id or ".",
        default=first.config_name,
        size=first.size,
        model=first.model.id,
        license=shared.license_names[entry.license],
        license_url=shared.license_urls[entry.license],
    )
    return _TEXT.format(
        metadata=_metadata(entry, manifests).to_yaml(),
        name=entry.python_class,
        section=store_section(section),
        citation=catalog.bibtex(entry),
    )


def _line(manifest: StoreManifest) -> str:
    read = manifest.input
    size = f"{read.channels} x {read.image_size}" + (f", {read.volumetric}" if read.volumetric else "")
    cells = (
        f"`{manifest.config_name}`",
        f"`{manifest.model.id}`",
        manifest.model.origin.replace("|", r"\|")
        + (f", revision {manifest.model.revision}" * bool(manifest.model.revision)),
        size,
        f"{manifest.dtype} ({manifest.width})",
        f"{manifest.rows:,}",
        f"{manifest.provenance} {manifest.source.file}",
    )
    return f"| {' | '.join(cells)} |"


def _metadata(entry: Subset, manifests: Sequence[StoreManifest]) -> DatasetCardData:
    tags = ["medical", "medmnist", "embeddings", f"{entry.ndim}d", entry.task.value]
    synthetic = any(manifest.source.synthetic for manifest in manifests)
    return DatasetCardData(
        license=entry.license,
        pretty_name=f"Features of {entry.python_class}",
        task_categories=["image-feature-extraction"],
        tags=[*tags, "synthetic"] if synthetic else tags,
        configs=[_config(manifest, is_default=manifest is manifests[0]) for manifest in manifests],
        dataset_info=[_info(entry, manifest) for manifest in manifests],
    )


def _config(manifest: StoreManifest, *, is_default: bool) -> dict[str, Any]:
    files = [{"split": split, "path": f"{manifest.config_name}/{split}-*"} for split in SPLITS]
    config = {
        "config_name": manifest.config_name,
        "data_files": files,
        # Without it, `datasets` would load the copy that it prepared from an earlier store of the same name.
        "description": f"Content ID of the shards: {manifest.content_id}",
    }
    return config | {"default": True} if is_default else config


def _info(entry: Subset, manifest: StoreManifest) -> dict[str, Any]:
    info = DatasetInfo(
        config_name=manifest.config_name,
        features=embedding_features_of(entry, manifest.size, manifest.dtype, manifest.width),
        splits=SplitDict(
            {
                split: SplitInfo(name=split, num_bytes=record.arrow_bytes, num_examples=record.rows)
                for split, record in manifest.splits.items()
            }
        ),
        download_size=sum(shard.bytes for shard in manifest.shards),
        dataset_size=sum(record.arrow_bytes for record in manifest.splits.values()),
    )
    table = {key: value for key, value in info._to_yaml_dict().items() if value is not None}
    return {"config_name": table.pop("config_name"), **table}
