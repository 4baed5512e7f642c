"""``medmnist_hf.cards.metadata``: what the Hub and `datasets` read from the header of a card."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import DatasetInfo
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCardData

from medmnist_hf.cards.metadata import card_data, check_manifests, default_config, size_category
from medmnist_hf.catalog import SPLITS, Subset, Task, subset, subsets
from medmnist_hf.conversion.sources.source import SourceFile
from medmnist_hf.errors import BuildError, CatalogError
from medmnist_hf.features import features_of
from medmnist_hf.manifest import Manifest, read_build
from tests.fixtures.builds import build


@pytest.fixture(scope="module")
def manifests(phantoms: Callable[..., SourceFile], tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, ...]:
    return read_build(build(phantoms, tmp_path_factory.mktemp("dist"), "breastmnist", 28, 64))


def read_infos(data: DatasetCardData) -> dict[str, DatasetInfo]:
    return {table["config_name"]: DatasetInfo._from_yaml_dict(table) for table in data["dataset_info"]}


@pytest.mark.parametrize("entry", subsets(), ids=lambda entry: entry.flag)
def test_published_subsets(entry: Subset) -> None:
    data = card_data(entry)
    configs = MetadataConfigs.from_dataset_card_data(data)
    assert list(configs) == [str(size) for size in entry.sizes]
    assert configs.get_default_config_name() == "28"
    for size in entry.sizes:
        files = configs[str(size)]["data_files"]
        assert files == [{"split": split, "path": f"{size}/{split}-*"} for split in SPLITS]
        assert read_infos(data)[str(size)].features == features_of(entry, size)
    assert data.license == ("cc-by-nc-4.0" if entry.flag == "dermamnist" else "cc-by-4.0")
    assert data.pretty_name == entry.python_class
    assert data.task_categories == ["image-classification"]
    kind = "label" if entry.task is Task.MULTI_LABEL else "class"
    assert data.task_ids == [f"multi-{kind}-image-classification"]
    assert {"medical", "medmnist", f"{entry.ndim}d", entry.task.value} <= set(data["tags"])
    assert "synthetic" not in data["tags"]
    assert data.language is None


def test_facts_of_single_subsets() -> None:
    assert card_data(subset("adrenalmnist3d")).source_datasets == ["original"]
    assert card_data(subset("pathmnist")).source_datasets == ["extended"]
    assert "colon-pathology" in card_data(subset("pathmnist"))["tags"]
    assert card_data(subset("tissuemnist")).size_categories == ["100K<n<1M"]
    assert card_data(subset("breastmnist")).size_categories == ["n<1K"]


def test_sizes_of_a_build(manifests: tuple[Manifest, ...]) -> None:
    data = card_data(subset("breastmnist"), manifests)
    assert "synthetic" in data["tags"]
    for manifest in manifests:
        info = read_infos(data)[manifest.config_name]
        assert {split: info.splits[split].num_examples for split in SPLITS} == {
            split: record.rows for split, record in manifest.splits.items()
        }
        assert sum(info.splits[split].num_bytes for split in SPLITS) == info.dataset_size > 0
        assert info.download_size == sum(shard.bytes for shard in manifest.shards)
    assert len(manifests[0].shards) > len(SPLITS)


@pytest.mark.parametrize(
    ("rows", "name"),
    [(999, "n<1K"), (1000, "1K<n<10K"), (9999, "1K<n<10K"), (10**4, "10K<n<100K"), (10**5, "100K<n<1M")],
)
def test_size_categories(rows: int, name: str) -> None:
    assert size_category(rows) == name


def test_default_config() -> None:
    for sizes in itertools.permutations(("28", "64", "28-corrected")):
        assert default_config(sizes) == "28"
    assert default_config(["64", "224"]) == "64"


def test_manifests_are_sorted_by_size(manifests: tuple[Manifest, ...]) -> None:
    assert check_manifests(subset("breastmnist"), manifests[::-1]) == manifests


def test_inconsistent_manifests_are_refused(manifests: tuple[Manifest, ...], tmp_path: Path) -> None:
    entry, (small, _) = subset("breastmnist"), manifests
    cases: list[tuple[list[Manifest], str]] = [
        ([dataclasses.replace(small, subset="pathmnist")], "a build of pathmnist is among those of breastmnist"),
        ([small, small], "two manifests of breastmnist have the same size"),
        ([dataclasses.replace(small, splits={})], "the manifest of breastmnist 28 has the splits none"),
    ]
    for inconsistent, line in cases:
        with pytest.raises(BuildError) as caught:
            check_manifests(entry, inconsistent)
        assert str(caught.value).startswith(line)
        assert "\n" not in str(caught.value)
    with pytest.raises(CatalogError, match=r"^breastmnist has no size 32: "):
        check_manifests(entry, [dataclasses.replace(small, size=32)])
