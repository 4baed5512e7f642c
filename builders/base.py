"""Base of both builders: configs from the catalog, splits from a source, tables from `medmnist_hf.conversion`."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow as pa
from datasets.builder import Key

from medmnist_hf import catalog
from medmnist_hf.conversion.sharding import DEFAULT_SHARD_SIZE, RowRange, rows_per_group, shard_ranges
from medmnist_hf.conversion.sources.source import SourceFile, open_source
from medmnist_hf.conversion.tables import RowTables
from medmnist_hf.features import features_of


@dataclass
class MedMNISTConfig(datasets.BuilderConfig):  # type: ignore[misc]
    """One subset at one size.

    Attributes:
        subset: Flag of the subset.
        size: Edge length in pixels or voxels.
        source: Source of the NPZ file: ``zenodo``, ``phantom`` or a folder.
        codec: ``png`` or ``webp`` for images; always ``array`` for volumes.
    """

    subset: str = ""
    size: int = catalog.DEFAULT_SIZE
    source: str = "zenodo"
    codec: str = "png"


def configs(ndim: int) -> list[MedMNISTConfig]:
    """List a config per size of each subset with `ndim` dimensions, and of its variants: e.g. ``pathmnist-224``."""
    return [
        MedMNISTConfig(
            name=f"{subset.base}-{subset.config_name(size)}",
            subset=subset.flag,
            size=size,
            codec="array" if ndim == 3 else "png",
            version=datasets.Version(catalog.collection().version),
            description=subset.description,
        )
        for subset in catalog.entries()
        if subset.ndim == ndim
        for size in subset.sizes
    ]


class MedMNISTBuilder(datasets.ArrowBasedBuilder):  # type: ignore[misc]
    """Converts one NPZ file to Arrow tables with the columns ``image`` and ``label``, one table per row group.

    Use it like any builder of `datasets`: ``MedMNIST2D(config_name="pathmnist-28").download_and_prepare()``. From the
    same tables, `medmnist_hf.conversion.build` writes sharded Parquet with a manifest.
    """

    BUILDER_CONFIG_CLASS = MedMNISTConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tables = RowTables(catalog.subset(self.config.subset), self.config.size, self.config.codec)
        # Each table is a row group; by default, `datasets` would split tables of images again, every 100 rows.
        self._writer_batch_size = rows_per_group(self._tables.image_shape, self._tables.subset.ndim)

    def _info(self) -> datasets.DatasetInfo:
        subset = catalog.subset(self.config.subset)
        return datasets.DatasetInfo(
            description=subset.description,
            features=features_of(subset, self.config.size),
            homepage=catalog.collection().homepage,
            license=catalog.collection().license_names[subset.license],
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        tables = self._tables
        file = open_source(self.config.source).fetch(tables.subset, tables.size)
        reader = tables.open(file)
        return [
            datasets.SplitGenerator(
                name=split,
                gen_kwargs={
                    "file": file,
                    "split": split,
                    "shards": shard_ranges(reader.rows(split), tables.image_shape, DEFAULT_SHARD_SIZE),
                },
            )
            for split in catalog.SPLITS
        ]

    def _generate_tables(self, file: SourceFile, split: str, shards: list[RowRange]) -> Iterator[tuple[Key, pa.Table]]:
        with ThreadPoolExecutor() as pool:
            for shard, group, table in self._tables.stream(self._tables.open(file), split, shards, pool):
                yield Key(shard, group), table
