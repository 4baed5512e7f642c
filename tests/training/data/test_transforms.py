"""``medmnist_hf.training.data.transforms``: values equal the usual pipeline, and equal seeds give equal batches."""

import copy
import dataclasses
import doctest
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
import pytest
import torch
import torchvision.transforms as usual  # type: ignore[import-untyped]
from torch import Tensor
from torchvision.transforms import v2

from medmnist_hf.errors import TrainingError
from medmnist_hf.statistics.sums import PixelCounter
from medmnist_hf.training.data import transforms
from medmnist_hf.training.data.augment import Augmentation, ColorJitter, Crop, Erasing, Flip, Rotation
from medmnist_hf.training.data.dataset import ArrayDataset
from medmnist_hf.training.data.loader import ArrayLoader
from medmnist_hf.training.data.transforms import BatchTransform, Interpolation, channels_first, resize

IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SHAPES = {"rgb": (28, 28, 3), "gray": (28, 28), "volume": (10, 10, 10)}


def dataset_of(kind: str, count: int = 12, side: int | None = None) -> ArrayDataset:
    shape = SHAPES[kind] if side is None else tuple(side if length != 3 else 3 for length in SHAPES[kind])
    images = np.random.default_rng(1).integers(0, 256, (count, *shape), dtype=np.uint8)
    return ArrayDataset(images, np.arange(count))


def values(
    transform: BatchTransform, data: ArrayDataset, indices: Sequence[int] | None = None, epoch: int = 0
) -> Tensor:
    return transform(data.gather(indices or range(len(data)), epoch=epoch))["pixel_values"]


def expected(data: ArrayDataset, *steps: Callable[[Any], Any]) -> Tensor:
    """The result of the usual pipeline, image by image."""
    pipeline = usual.Compose(steps)
    return torch.stack([pipeline(PIL.Image.fromarray(data[index]["images"].numpy())) for index in range(len(data))])


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("kind", "options", "mean", "std"),
    [
        ("rgb", {}, 0.5, 0.5),
        ("rgb", IMAGENET, *IMAGENET.values()),
        ("gray", {"mean": 0.3, "std": (0.2,)}, 0.3, 0.2),
        ("gray", {"channels": 3, **IMAGENET}, *IMAGENET.values()),
    ],
)
def test_values_equal_to_tensor_and_normalize(
    kind: str, options: dict[str, Any], mean: object, std: object, channels_last: bool
) -> None:
    data = dataset_of(kind)
    result = values(BatchTransform(**options, channels_last=channels_last), data)
    to_channels = usual.Grayscale(3) if "channels" in options else usual.Lambda(lambda image: image)
    reference = expected(data, to_channels, usual.ToTensor(), usual.Normalize(mean, std))
    torch.testing.assert_close(result, reference, atol=1e-6, rtol=0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert result.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist", "adrenalmnist3d"])
def test_values_of_official_files_equal_the_official_pipeline(real_data: Path, flag: str) -> None:
    with np.load(real_data / f"{flag}.npz") as file:
        images, labels = file["test_images"][:50], file["test_labels"][:50, 0]
    result = values(BatchTransform(), ArrayDataset(images, labels))
    channels = images if images.shape[-1] == 3 else images[..., None]
    reference = (np.moveaxis(channels.astype(np.float32) / np.float32(255), -1, 1) - 0.5) / 0.5
    np.testing.assert_allclose(result, reference, atol=1e-6)


def test_statistics_of_the_data_set() -> None:
    images = np.random.default_rng(1).integers(0, 200, (40, 28, 28, 3), np.uint8)
    counter = PixelCounter(3)
    counter.add(images)
    data = ArrayDataset(images, np.arange(40), statistics=counter.sums())
    transform = BatchTransform(stats="dataset")
    result = values(copy.deepcopy(transform), copy.deepcopy(data))
    torch.testing.assert_close(result.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)
    given = BatchTransform(stats=counter.sums())
    assert torch.equal(values(given, data), result) and given.mean == counter.sums().mean
    assert dataclasses.replace(given, size=28).mean == given.mean
    (batch,) = ArrayLoader(data, 40, transform=transform)
    assert torch.equal(batch["pixel_values"], result)
    with pytest.raises(TrainingError, match="the batch is from data without statistics: use ArrayDataset"):
        values(transform, dataset_of("gray"))
    with pytest.raises(TrainingError, match="give either stats, or mean and std"):
        BatchTransform(stats="dataset", mean=0.1)
    with pytest.raises(TrainingError, match="unknown stats 'train'"):
        BatchTransform(stats="train")  # type: ignore[arg-type]


@pytest.mark.parametrize("channels_last", [False, True])
def test_volumes(channels_last: bool) -> None:
    data = dataset_of("volume")
    result = values(BatchTransform(channels=3, **IMAGENET, channels_last=channels_last), data)
    stored = data.gather(range(12)).images[:, None].float() / 255
    mean, std = (torch.tensor(statistic).view(1, 3, 1, 1, 1) for statistic in IMAGENET.values())
    torch.testing.assert_close(result, (stored - mean) / std, atol=1e-6, rtol=0)
    layout = torch.channels_last_3d if channels_last else torch.contiguous_format
    assert result.is_contiguous(memory_format=layout)


def test_labels_are_unchanged() -> None:
    data = dataset_of("rgb")
    batch = BatchTransform()(data.gather([5, 2]))
    assert batch.keys() == {"pixel_values", "labels"}
    assert batch["labels"].tolist() == [5, 2]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("fit", ["resize", "pad"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_types_are_rounded_float_values(dtype: str, fit: str, channels_last: bool) -> None:
    data = dataset_of("rgb")
    options = {**IMAGENET, "size": 32, "fit": fit, "channels_last": channels_last}
    result = values(BatchTransform(**options | {"dtype": dtype}), data)
    assert result.dtype == getattr(torch, dtype)
    assert torch.equal(result, values(BatchTransform(**options), data).to(result.dtype))


@pytest.mark.parametrize(
    ("kind", "side", "size"), [("rgb", 28, 64), ("gray", 28, 224), ("rgb", 64, 28), ("gray", 28, 8)]
)
@pytest.mark.parametrize(("name", "pillow"), [("nearest", 0), ("bilinear", 2), ("bicubic", 3)])
def test_resizing_equals_pillow(kind: str, side: int, size: int, name: Interpolation, pillow: int) -> None:
    """Exactly for nearest; otherwise up to the rounding of weights, which differs in torch and rarely matters."""
    data = dataset_of(kind, side=side)
    resized = resize(channels_first(data.gather(range(12)).images), size, name)
    for index, result in enumerate(resized):
        image = PIL.Image.fromarray(data[index]["images"].numpy())
        reference = np.asarray(image.resize((size, size), PIL.Image.Resampling(pillow)))
        error = np.abs(result.movedim(0, -1).squeeze(-1).numpy().astype(int) - reference)
        assert error.max() <= (0 if name == "nearest" else 2)
        assert error.mean() < (0.01 if size > 8 else 0.1)  # one of 64 pixels is 0.016


def test_without_antialiasing_pixels_in_between_are_ignored() -> None:
    images = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    images[..., 1::4] = images[..., 2::4] = 255
    assert (resize(images, 7, "bilinear", antialias=False) == 255).all()
    assert (resize(images, 7, "bilinear") < 200).all()


def test_volumes_are_resized_voxel_by_voxel() -> None:
    images = channels_first(dataset_of("volume", 2).gather(range(2)).images)
    weights = np.zeros((16, 10))
    for row in range(16):
        at = max(0.0, (row + 0.5) * 10 / 16 - 0.5)
        low = min(int(at), 9)
        weights[row, low] += 1 - (at - low)
        weights[row, min(low + 1, 9)] += at - low
    reference = np.einsum("ad,bh,cw,nzdhw->nzabc", weights, weights, weights, images.numpy().astype(float))
    assert np.abs(resize(images, 16).numpy() - reference).max() <= 0.5 + 1e-3
    nearest = resize(images, 16, "nearest").numpy()
    centers = np.floor((np.arange(16) + 0.5) * 10 / 16).astype(int)
    np.testing.assert_array_equal(nearest, images.numpy()[:, :, centers][:, :, :, centers][..., centers])
    blocks = images.numpy().reshape(2, 1, 5, 2, 5, 2, 5, 2).mean((3, 5, 7))
    assert np.abs(resize(images, 5, "area").numpy() - blocks).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("size", [28, 31, 40])
def test_padding_surrounds_normalized_images_with_zeros(kind: str, size: int) -> None:
    data = dataset_of(kind)
    padded, inner = values(BatchTransform(size=size, fit="pad"), data), values(BatchTransform(), data)
    before = (size - inner.shape[-1]) // 2
    margins = (before, size - inner.shape[-1] - before) * (inner.ndim - 2)
    assert torch.equal(padded, torch.nn.functional.pad(inner, margins))


@pytest.mark.parametrize("augment", [[Flip(), Crop(9), Rotation(20), Erasing()], []])
@pytest.mark.parametrize("size", [None, 96])
def test_results_do_not_depend_on_the_size_of_pieces(
    monkeypatch: pytest.MonkeyPatch, augment: list[Augmentation], size: int | None
) -> None:
    data = dataset_of("rgb", 11, side=112)
    transform = BatchTransform(augment=augment, size=size, **IMAGENET, seed=4)
    result = values(transform, data)
    for piece in (1 << 40, 1):
        monkeypatch.setattr(transforms, "_PIECE", piece)
        assert torch.equal(result, values(transform, data))


@pytest.mark.parametrize("kind", ["rgb", "volume"])
def test_results_do_not_depend_on_the_number_of_cores(kind: str) -> None:
    """Threads and workers make batches on one core, other callers on all; the results must be identical."""
    jitter = ColorJitter(0.3, 0.3, 0.3, 0.1) if kind == "rgb" else ColorJitter(0.3, 0.3)
    transform = BatchTransform(augment=[Flip(), Crop(9), Rotation(20), jitter], size=100)
    data = dataset_of(kind, 5, side=224 if kind == "rgb" else 64)
    default_cores, results = torch.get_num_threads(), []
    try:
        for cores in (1, 3):
            torch.set_num_threads(cores)
            results.append([values(transform, data, indices) for indices in (range(5), [3])])
    finally:
        torch.set_num_threads(default_cores)
    assert all(torch.equal(first, second) for first, second in zip(*results, strict=True))


def test_augmentation_depends_only_on_seed_epoch_and_indices() -> None:
    data = dataset_of("rgb")
    transform = BatchTransform(augment=[Flip(), Crop(4)], seed=1)
    first = values(transform, data, [3, 4, 5], epoch=2)
    torch.manual_seed(123)
    copy = pickle.loads(pickle.dumps(transform))  # noqa: S301  (pickled here)
    assert torch.equal(first, values(copy, data, [3, 4, 5], epoch=2))
    for other in (
        values(transform, data, [3, 4, 5], epoch=3),
        values(transform, data, [5, 4, 3], epoch=2).flip(0),
        values(BatchTransform(augment=[Flip(), Crop(4)], seed=2), data, [3, 4, 5], epoch=2),
    ):
        assert not torch.equal(first, other)


@pytest.mark.parametrize("mean", [0.5, (0.1, 0.2, 0.3)])
def test_a_pickled_transform_has_no_tensors(mean: float | tuple[float, ...]) -> None:
    """Those on a device could not be loaded where there is none."""
    data, transform = dataset_of("rgb"), BatchTransform(mean=mean, channels_last=True)
    first = values(transform, data)
    copied = pickle.loads(pickle.dumps(transform))  # noqa: S301  (pickled here)
    assert transform._factors and not copied._factors
    assert torch.equal(values(copied, data), first)


def test_augmentation_comes_before_resizing_and_normalization() -> None:
    data = dataset_of("gray")
    flipped = values(BatchTransform(augment=[Flip(p=1), Flip((-2,), p=1)], size=56, interpolation="nearest"), data)
    assert torch.equal(flipped, values(BatchTransform(size=56, interpolation="nearest"), data).flip(-1, -2))


def test_torchvision_modules_get_floats_and_a_seeded_generator() -> None:
    data = dataset_of("rgb")
    seen: list[Tensor] = []

    def look(images: Tensor) -> Tensor:
        seen.append(images)
        return images

    crop = v2.RandomResizedCrop(20, antialias=True)
    transform = BatchTransform(augment=[Flip(), look, crop], seed=3)
    assert transform.draws_globally
    torch.manual_seed(5)
    first = values(transform, data)
    next_draw = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(next_draw, torch.rand(3)), "the state of the global generator is restored"
    assert torch.equal(first, values(transform, data))
    assert not torch.equal(first, values(transform, data, epoch=1))
    assert first.shape == (12, 3, 20, 20)
    assert seen[0].dtype == torch.float32
    assert 0 <= seen[0].min() < seen[0].max() <= 1
    flipped = values(BatchTransform(augment=[Flip()], seed=3), data)
    torch.testing.assert_close(seen[0] * 2 - 1, flipped, atol=1e-6, rtol=0)


def test_all_forms_of_a_batch_give_the_same_result() -> None:
    data = dataset_of("rgb")
    transform = BatchTransform(augment=[Crop(4)])
    batch = data.gather([1, 2])
    reference = transform(batch)
    samples = [data[1], data[2]]
    for form in (batch.as_dict(), [batch], samples):
        result = transform(form)
        assert torch.equal(result["pixel_values"], reference["pixel_values"])
        assert torch.equal(result["labels"], reference["labels"])


def test_samples_of_other_data_sets() -> None:
    rgb, gray, volume = (dataset_of(kind) for kind in SHAPES)
    for data in (rgb, gray, volume):
        stored = data.gather(range(4)).images.numpy()
        reference = values(BatchTransform(), data, range(4))
        forms: list[list[dict[str, Any]]] = [[{"image": image, "label": 1} for image in stored]]
        if data is not volume:
            forms.append([{"image": PIL.Image.fromarray(image), "label": 1} for image in stored])
            features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
            hub = datasets.Dataset.from_list(forms[-1], features=features).with_format("torch")
            forms.append([hub[index] for index in range(4)])
        for samples in forms:
            batch = BatchTransform()(samples)
            assert torch.equal(batch["pixel_values"], reference)
            assert batch["labels"].tolist() == [1] * 4
    multi_label = BatchTransform()([{"image": np.zeros((4, 4), np.uint8), "label": np.array([0, 1])}] * 2)
    assert multi_label["labels"].tolist() == [[0, 1], [0, 1]]
    assert multi_label["labels"].dtype == torch.float32


def test_samples_without_indices_follow_torchs_generator() -> None:
    samples = [{"image": image, "label": 0} for image in dataset_of("rgb").gather(range(8)).images.numpy()]
    transform = BatchTransform(augment=[Crop(4)])
    torch.manual_seed(1)
    first, second = (transform(samples)["pixel_values"] for _ in range(2))
    torch.manual_seed(1)
    assert torch.equal(first, transform(samples)["pixel_values"])
    assert not torch.equal(first, second)


def test_the_memory_of_a_live_batch_is_not_overwritten() -> None:
    data, transform = dataset_of("rgb", 64), BatchTransform(size=32)
    batches = [values(transform, data, range(start, start + 8)) for start in range(0, 64, 8)]
    copies = [batch.clone() for batch in batches]
    for start in range(0, 64, 8):
        values(transform, data, range(start, start + 8))
        del batches[0], copies[0]
        assert all(torch.equal(*pair) for pair in zip(batches, copies, strict=True))


@pytest.mark.parametrize("options", [{"size": 40}, {"size": 40, "fit": "pad", "channels_last": True}, {"channels": 3}])
@pytest.mark.parametrize("kind", ["gray", "volume"])
def test_other_devices_give_the_same_shapes(kind: str, options: dict[str, Any]) -> None:
    batch = dataset_of(kind).gather(range(4))
    transform = BatchTransform(**options, augment=[Flip()], dtype="bfloat16")
    on_meta, on_cpu = transform(batch.to(torch.device("meta")))["pixel_values"], transform(batch)["pixel_values"]
    assert on_meta.device.type == "meta"
    assert (on_meta.shape, on_meta.dtype, on_meta.stride()) == (on_cpu.shape, on_cpu.dtype, on_cpu.stride())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BatchTransform(interpolation="cubic"), "unknown interpolation 'cubic': choose from area, bicubic"),  # type: ignore[arg-type]
        (lambda: BatchTransform(dtype="int8"), "unknown dtype 'int8'"),  # type: ignore[arg-type]
        (lambda: BatchTransform(fit="crop"), "unknown fit 'crop': choose from resize, pad"),  # type: ignore[arg-type]
        (lambda: BatchTransform(channels=1), "unknown channels 1"),  # type: ignore[arg-type]
        (lambda: BatchTransform(size=0), "size is 0"),
        (lambda: BatchTransform(std=(0.5, 0)), "std is (0.5, 0)"),
        (lambda: values(BatchTransform(mean=(0.1, 0.2, 0.3)), dataset_of("gray")), "the output has 1 channels"),
        (lambda: values(BatchTransform(size=20, fit="pad"), dataset_of("rgb")), "cannot be padded to 20"),
        (lambda: values(BatchTransform(size=20, interpolation="bilinear"), dataset_of("volume")), "not for volumes"),
        (lambda: values(BatchTransform(size=20, interpolation="trilinear"), dataset_of("rgb")), "not for images"),
        (lambda: values(BatchTransform(augment=[lambda images: None]), dataset_of("rgb")), "returned no batch"),  # type: ignore[list-item,return-value]
        (lambda: BatchTransform()({"pixels": 1}), "a batch has pixels: it must have images and labels"),
        (lambda: BatchTransform()([{"label": 1}]), "a sample has label: it must have images"),
        (lambda: BatchTransform()([{"image": np.zeros((4, 4)), "label": 1}]), "are float64: give uint8"),
    ],
)
def test_invalid_arguments_are_one_line_errors(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TrainingError) as caught:
        make()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_example_works() -> None:
    assert doctest.testmod(transforms).failed == 0
