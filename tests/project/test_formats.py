"""Every way of reading a build equals the NPZ file: formats, torchvision, timm, streams, ImageFolder."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import pytest
import torch
from huggingface_hub import snapshot_download
from numpy.typing import NDArray
from timm.data.dataset_factory import create_dataset
from timm.data.loader import create_loader
from timm.data.target_transforms import MultiLabelTarget
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder  # type: ignore[import-untyped]
from torchvision.transforms import v2  # type: ignore[import-untyped]

import medmnist_hf
from medmnist_hf.cards.render import write_card
from medmnist_hf.catalog import NPZ_SPLITS, SPLITS, subset
from medmnist_hf.data.rows import open_rows
from medmnist_hf.exporting.export import export
from medmnist_hf.exporting.imagefolder import class_folder
from medmnist_hf.features import features_of
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.hub.server import HubServer
from tests.fixtures.on_hub import fetched, put_on_hub

BUILDS = {"breastmnist": (28,), "bloodmnist": (28, 64), "chestmnist": (28, 64), "organmnist3d": (28,)}
ROWS = 24
BATCH = 5


class Truth(NamedTuple):
    """A split of the NPZ file: uint8 images, with channels last if any, and labels as int64 (N, 1) or (N, 14)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    @property
    def tensors(self) -> NDArray[np.uint8]:
        """Images as `datasets` and torchvision pass them to torch: channels first, also a single one."""
        return self.images.transpose(0, 3, 1, 2) if self.images.shape[-1] == 3 else self.images[:, None]


Source = Callable[..., Truth]
"""Returns the content of the NPZ file for a flag, a size and a split."""


@pytest.fixture(scope="module")
def source(phantoms: Phantoms) -> Source:
    def read(flag: str, size: int = 28, split: str = "train") -> Truth:
        with np.load(phantoms(flag, size, ROWS).path, allow_pickle=False) as arrays:
            prefix = NPZ_SPLITS[split]
            return Truth(arrays[f"{prefix}_images"], arrays[f"{prefix}_labels"].astype(np.int64))

    return read


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    for flag, sizes in BUILDS.items():
        write_card(build(phantoms, out, flag, *sizes, rows=ROWS))
    return out


def stacked(images: Iterable[Any]) -> NDArray[Any]:
    return np.stack([np.asarray(image) for image in images])


def multi_hot(findings: Iterable[Iterable[int]], classes: int = 14) -> NDArray[np.float32]:
    rows = list(findings)
    targets = np.zeros((len(rows), classes), np.float32)
    for target, ids in zip(targets, rows, strict=True):
        target[list(ids)] = 1.0
    return targets


# with_format("torch")


@pytest.mark.parametrize("flag", ["breastmnist", "bloodmnist"])
def test_torch_images_are_uint8_and_labels_int64(root: Path, source: Source, flag: str) -> None:
    truth = source(flag)
    train = medmnist_hf.load(flag, 28, "train", root).with_format("torch")
    images, labels = zip(*((batch["image"], batch["label"]) for batch in DataLoader(train, BATCH)), strict=True)
    assert {batch.dtype for batch in images} == {train[0]["image"].dtype} == {torch.uint8}
    assert {batch.dtype for batch in labels} == {train[0]["label"].dtype} == {torch.int64}
    assert np.array_equal(torch.cat(images), truth.tensors)
    assert np.array_equal(torch.cat(labels), truth.labels[:, 0])
    arrays = medmnist_hf.load_arrays(flag, 28, "train", root, cache=False)
    assert np.array_equal(arrays.images, truth.images) and np.array_equal(arrays.labels, torch.cat(labels))


def test_torch_volumes_are_uint8_only_on_request(root: Path, source: Source) -> None:
    """Labels become uint8 as well, which cannot be class ids, unless the format is only set for the images."""
    truth = source("organmnist3d")
    train = medmnist_hf.load("organmnist3d", 28, "train", root)
    assert train.with_format("torch")[:2]["image"].dtype == torch.int64

    both = train.with_format("torch", dtype=torch.uint8)[:]
    assert both["image"].dtype == both["label"].dtype == torch.uint8
    assert np.array_equal(both["image"], truth.images)
    with pytest.raises(RuntimeError, match="Long"):
        one_hot(both["label"], 11)
    assert np.array_equal(one_hot(both["label"].long(), 11).argmax(1), truth.labels[:, 0])

    chosen = train.with_format("torch", columns=["image"], output_all_columns=True, dtype=torch.uint8)
    batches = list(DataLoader(chosen, BATCH))
    assert {batch["image"].dtype for batch in batches} == {torch.uint8}
    assert {batch["label"].dtype for batch in batches} == {torch.int64}
    assert np.array_equal(torch.cat([batch["image"] for batch in batches]), truth.images)
    assert np.array_equal(torch.cat([batch["label"] for batch in batches]), truth.labels[:, 0])


def test_torch_findings_need_a_collate_function(root: Path, source: Source) -> None:
    truth = source("chestmnist")
    train = medmnist_hf.load("chestmnist", 28, "train", root).with_format("torch")
    with pytest.raises(RuntimeError, match="equal size"):
        next(iter(DataLoader(train, len(train))))

    def collate(rows: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
        targets = torch.from_numpy(multi_hot(row["label"].tolist() for row in rows))
        return torch.stack([row["image"] for row in rows]), targets

    images, targets = map(torch.cat, zip(*DataLoader(train, BATCH, collate_fn=collate), strict=True))
    assert np.array_equal(images, truth.tensors) and np.array_equal(targets, truth.labels)
    assert np.array_equal(medmnist_hf.to_arrays(train, cache=False).labels, targets)


# set_transform

UNCHANGED = v2.PILToTensor()
FLIPPED = v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)])


def unchanged(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {**rows, "image": [UNCHANGED(image) for image in rows["image"]]}


def flipped(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {**rows, "image": [FLIPPED(image) for image in rows["image"]]}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_torchvision_transform_is_applied_to_every_image_once(root: Path, source: Source, workers: int) -> None:
    truth = source("bloodmnist")
    train = medmnist_hf.load("bloodmnist", 28, "train", root)
    train.set_transform(unchanged)
    batches = list(DataLoader(train, BATCH, num_workers=workers))
    assert np.array_equal(torch.cat([batch["image"] for batch in batches]), truth.tensors)
    assert np.array_equal(torch.cat([batch["label"] for batch in batches]), truth.labels[:, 0])

    train.set_transform(flipped)
    torch.manual_seed(0)
    images = torch.cat([batch["image"] for batch in DataLoader(train, BATCH, num_workers=workers)])
    pixels = (images * 255).round().to(torch.uint8).numpy()
    kept = [np.array_equal(*pair) for pair in zip(pixels, truth.tensors, strict=True)]
    mirrored = [np.array_equal(*pair) for pair in zip(pixels, truth.tensors[..., ::-1], strict=True)]
    assert all(a != b for a, b in zip(kept, mirrored, strict=True)) and any(kept) and any(mirrored)


# timm


@pytest.mark.parametrize(
    ("flag", "size", "name"),
    [
        ("breastmnist", 28, "breastmnist"),
        ("bloodmnist", 28, "bloodmnist"),
        ("bloodmnist", 64, "bloodmnist/64"),
        ("chestmnist", 28, "chestmnist"),
        ("chestmnist", 64, "chestmnist/64"),
    ],
)
def test_timm_reads_the_default_size_by_name_and_any_size_by_its_folder(
    root: Path, source: Source, flag: str, size: int, name: str
) -> None:
    entry = subset(flag)
    for split in SPLITS:
        truth = source(flag, size, split)
        data = create_dataset(f"hfds/{root}/{name}", split=split, input_img_mode="L" if entry.channels == 1 else "RGB")
        assert data.reader.class_to_idx == {label: index for index, label in enumerate(entry.labels)}
        images, labels = zip(*(data[index] for index in range(len(data))), strict=True)
        assert np.array_equal(stacked(images), truth.images)
        expected = [np.flatnonzero(row).tolist() for row in truth.labels]
        assert list(labels) == (expected if flag == "chestmnist" else truth.labels[:, 0].tolist())


def test_timm_loads_batches(root: Path, source: Source) -> None:
    truth = source("chestmnist")
    target = MultiLabelTarget(14)
    data = create_dataset(f"hfds/{root}/chestmnist", split="train", target_format="indices", target_transform=target)
    loader = create_loader(
        data, (3, 28, 28), 8, mean=(0.0,) * 3, std=(1.0,) * 3, crop_pct=1.0, num_workers=0, device=torch.device("cpu")
    )
    images, targets = map(torch.cat, zip(*loader, strict=True))
    pixels = (images * 255).round().to(torch.uint8)
    assert np.array_equal(pixels, np.repeat(truth.tensors, 3, axis=1))
    assert targets.dtype == torch.float32 and np.array_equal(targets, truth.labels)


def test_timm_reads_multi_hot_findings_from_a_converted_copy(root: Path, source: Source, tmp_path: Path) -> None:
    """Our column holds ids of findings: reading them as multi-hot vectors fails instead of giving wrong targets."""
    truth = source("chestmnist")
    options: dict[str, Any] = {"split": "train", "target_format": "multihot", "input_img_mode": "L"}
    options["target_transform"] = MultiLabelTarget(14, dense=True)
    data = create_dataset(f"hfds/{root}/chestmnist", **options)
    with pytest.raises(ValueError, match="must have 14 entries"):
        data[0]

    features = datasets.Features(
        image=datasets.Image(mode="L"), label=datasets.List(datasets.Value("uint8"), length=14)
    )
    train = medmnist_hf.load("chestmnist", 28, "train", root)
    vectors = train.map(
        lambda rows: {"label": multi_hot(rows["label"]).astype(np.uint8)}, batched=True, features=features
    )
    vectors.to_parquet(tmp_path / "train.parquet")
    images, targets = zip(*create_dataset(f"hfds/{tmp_path}", **options), strict=True)
    assert np.array_equal(stacked(images), truth.images)
    assert np.array_equal(torch.stack(targets), truth.labels)


def test_timm_streams_a_build(root: Path, source: Source) -> None:
    truth = source("bloodmnist")
    data = create_dataset(f"hfids/{root}/bloodmnist", split="train", batch_size=BATCH)
    assert len(data) == len(truth.images)
    images, labels = zip(*data, strict=True)
    assert np.array_equal(stacked(images), truth.images) and list(labels) == truth.labels[:, 0].tolist()


def test_timm_refuses_volumes(root: Path) -> None:
    with pytest.raises(TypeError, match="Cannot handle this data type"), pytest.warns(UserWarning, match="Pillow"):
        create_dataset(f"hfds/{root}/organmnist3d", split="train")


# Streams


def count(images: Iterable[Any], labels: Iterable[Any]) -> Counter[tuple[bytes, int]]:
    return Counter(
        (np.ascontiguousarray(image, np.uint8).tobytes(), int(label))
        for image, label in zip(images, labels, strict=True)
    )


def draw(data: Any, workers: int) -> list[tuple[bytes, int]]:
    batches = list(DataLoader(data, BATCH, num_workers=workers))
    images, labels = (torch.cat([batch[name] for batch in batches]) for name in ("image", "label"))
    return [(np.ascontiguousarray(i, np.uint8).tobytes(), int(n)) for i, n in zip(images, labels, strict=True)]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("kind", "flag"), [("streamed", "bloodmnist"), ("streamed", "organmnist3d"), ("converted", "bloodmnist")]
)
def test_a_stream_yields_each_sample_once(root: Path, source: Source, kind: str, flag: str, workers: int) -> None:
    truth = source(flag)
    expected = count(truth.tensors if flag == "bloodmnist" else truth.images, truth.labels[:, 0])
    assert max(expected.values()) == 1, "equal samples cannot be distinguished"
    if kind == "streamed":
        stream = medmnist_hf.load(flag, 28, "train", root, streaming=True).with_format("torch")
        shards = len(list((root / flag / "28").glob("train-*.parquet")))
    else:
        shards = 4
        stream = medmnist_hf.load(flag, 28, "train", root).with_format("torch").to_iterable_dataset(num_shards=shards)
    assert stream.num_shards == shards > 2
    in_order = draw(stream, workers)
    assert Counter(in_order) == expected
    shuffled = stream.shuffle(seed=0, buffer_size=8, max_buffer_input_shards=1)
    first = draw(shuffled, workers)
    shuffled.set_epoch(1)
    second = draw(shuffled, workers)
    assert in_order != first != second
    assert Counter(first) == Counter(second) == expected


def test_a_stream_does_not_keep_a_dtype(root: Path) -> None:
    """Voxels of a stream are int64, whatever dtype the data set had before."""
    train = medmnist_hf.load("organmnist3d", 28, "train", root)
    with pytest.raises(NotImplementedError, match="with_format"):
        train.with_format("torch", dtype=torch.uint8).to_iterable_dataset()
    assert next(iter(train.to_iterable_dataset().with_format("torch")))["image"].dtype == torch.int64


# ImageFolder


@pytest.mark.parametrize(("flag", "size"), [("breastmnist", 28), ("bloodmnist", 64)])
def test_an_imagefolder_is_the_same_in_torchvision_datasets_and_timm(
    root: Path, source: Source, tmp_path: Path, flag: str, size: int
) -> None:
    entry = subset(flag)
    (folder,) = export(open_rows(flag, size, root=root), tmp_path, "imagefolder").paths
    loaded = datasets.load_dataset("imagefolder", data_dir=str(folder))
    mode = "L" if entry.channels == 1 else "RGB"
    for split in SPLITS:
        truth = source(flag, size, split)
        by_torchvision = ImageFolder(folder / split)
        assert by_torchvision.classes == [class_folder(entry, label) for label in range(len(entry.labels))]
        by_timm = create_dataset("", root=str(folder), split=split, input_img_mode=mode)
        assert by_timm.reader.class_to_idx == by_torchvision.class_to_idx
        places = [int(Path(path).stem.removeprefix(split)) for path, _ in by_torchvision.samples]
        assert sorted(places) == list(range(len(truth.images)))
        assert by_torchvision.targets == truth.labels[places, 0].tolist()
        assert np.array_equal(stacked(image.convert(mode) for image, _ in by_torchvision), truth.images[places])

        expected = count(truth.images, truth.labels[:, 0])
        relabeled = loaded[split].cast_column("label", features_of(entry, size)["label"])
        assert count(relabeled["image"], relabeled["label"]) == expected
        assert count(*zip(*by_timm, strict=True)) == expected


def test_an_imagefolder_of_findings_is_not_for_torchvision(root: Path, tmp_path: Path) -> None:
    (folder,) = export(open_rows("chestmnist", root=root), tmp_path, "imagefolder").paths
    with pytest.raises(FileNotFoundError, match="class folder"):
        ImageFolder(folder / "train")


# From the Hub


@pytest.fixture
def reader(hub: HubServer, root: Path, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """The Hub with a build of two sizes, also used by `datasets` in this process."""
    put_on_hub(hub, root / "chestmnist")
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)
    monkeypatch.setattr(datasets.config, "USE_PARQUET_EXPORT", False)  # from the viewer, whose address is fixed
    return hub


def test_timm_reads_the_hub(reader: HubServer, source: Source, tmp_path: Path) -> None:
    """The default size is read by the repository's name, another one from a downloaded folder."""
    snapshot_download("org/chestmnist", repo_type="dataset", allow_patterns="64/*", local_dir=tmp_path)
    for name, size in (("org/chestmnist", 28), (f"{tmp_path}/64", 64)):
        truth = source("chestmnist", size)
        images, labels = zip(*create_dataset(f"hfds/{name}", split="train", input_img_mode="L"), strict=True)
        assert np.array_equal(stacked(images), truth.images)
        assert np.array_equal(multi_hot(labels), truth.labels)
    assert any(path.startswith("28/train") for path in fetched(reader))


def rows_of(rows: list[dict[str, Any]]) -> list[tuple[bytes, tuple[int, ...]]]:
    return [(row["image"].numpy().tobytes(), tuple(row["label"].tolist())) for row in rows]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_from_the_hub_yields_each_sample_once(reader: HubServer, source: Source, workers: int) -> None:
    truth = source("chestmnist", 64)
    stream = datasets.load_dataset("org/chestmnist", "64", split="train", streaming=True).with_format("torch")
    assert stream.num_shards >= 2
    shuffled = stream.shuffle(seed=0, buffer_size=8, max_buffer_input_shards=1)
    streamed = [row for batch in DataLoader(shuffled, BATCH, num_workers=workers, collate_fn=rows_of) for row in batch]
    findings = (tuple(np.flatnonzero(row).tolist()) for row in truth.labels)
    expected = list(zip((image.tobytes() for image in truth.images), findings, strict=True))
    assert Counter(streamed) == Counter(expected) and streamed != expected
    assert any(path.startswith("64/train") for path in fetched(reader))
