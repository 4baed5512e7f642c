"""``medmnist_hf.training.data.augment``: each augmentation against a slow reference, sample by sample."""

from collections.abc import Callable
from itertools import product
from math import cos, radians, sin

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv  # type: ignore[import-untyped]
from torch import Generator, Tensor
from torchvision.transforms import InterpolationMode

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.data import augment
from medmnist_hf.training.data.augment import (
    Augmentation,
    ColorJitter,
    Crop,
    Erasing,
    Flip,
    QuarterTurns,
    Rotation,
)

RGB, GRAY, VOLUME = (40, 3, 12, 12), (40, 1, 12, 12), (40, 1, 9, 9, 9)
PLANES = QuarterTurns.VOLUME_PLANES
ALL: list[tuple[Augmentation, tuple[int, ...]]] = [
    (Flip((-1, -2)), RGB),
    (Flip((-1, -2, -3)), VOLUME),
    (QuarterTurns(), RGB),
    (QuarterTurns(PLANES), VOLUME),
    (Crop(3), GRAY),
    (Crop(3, "reflect"), VOLUME),
    (Rotation(30), RGB),
    (Rotation(30), VOLUME),
    (ColorJitter(0.5, 0.5, 0.5, 0.2), RGB),
    (ColorJitter(0.5, 0.5), VOLUME),
    (Erasing(), RGB),
]


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def pixels(shape: tuple[int, ...], dtype: torch.dtype = torch.uint8) -> Tensor:
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded(9))
    return images if dtype == torch.uint8 else images / 255


@pytest.mark.parametrize(("augmentation", "shape"), ALL)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_shape_type_range_and_input_are_preserved(
    augmentation: Augmentation, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    images = pixels(shape, dtype)
    before = images.clone()
    changed = augmentation(images, seeded())
    assert changed.shape == images.shape
    assert changed.dtype == dtype
    assert 0 <= changed.min() <= changed.max() <= (255 if dtype == torch.uint8 else 1 + 1e-6)
    assert torch.equal(images, before)
    assert not torch.equal(changed, images)


@pytest.mark.parametrize(("augmentation", "shape"), ALL)
def test_draws_depend_only_on_the_generator_and_differ_by_sample(
    augmentation: Augmentation, shape: tuple[int, ...]
) -> None:
    images = pixels((1, *shape[1:])).expand(shape)
    torch.manual_seed(1)
    first = augmentation(images, seeded(3))
    torch.manual_seed(2)
    assert torch.equal(first, augmentation(images, seeded(3)))
    assert not torch.equal(first, augmentation(images, seeded(4)))
    assert len({sample.numpy().tobytes() for sample in first}) > 2


@pytest.mark.parametrize(("augmentation", "shape"), ALL)
def test_a_slice_of_a_batch_is_changed_like_the_whole_batch(
    augmentation: Augmentation, shape: tuple[int, ...]
) -> None:
    images = pixels(shape)
    parameters = augmentation.draw(shape, seeded())
    part = augmentation.apply(images[7:19], *(parameter[7:19] for parameter in parameters))
    assert torch.equal(part, augmentation.apply(images, *parameters)[7:19])


@pytest.mark.parametrize(("augmentation", "shape"), ALL)
def test_channels_last_memory_makes_no_difference(augmentation: Augmentation, shape: tuple[int, ...]) -> None:
    images = pixels(shape)
    laid_out = images.movedim(1, -1).contiguous().movedim(-1, 1)
    torch.testing.assert_close(augmentation(laid_out, seeded()), augmentation(images, seeded()), atol=1, rtol=0)


@pytest.mark.parametrize(("augmentation", "shape"), ALL)
def test_the_code_for_accelerators_gives_the_right_shapes(augmentation: Augmentation, shape: tuple[int, ...]) -> None:
    """The meta device takes the same code path as accelerators."""
    images = pixels(shape).to("meta")
    changed = augmentation(images, seeded())
    assert changed.shape == images.shape
    assert changed.device.type == "meta"


@pytest.mark.parametrize(("axes", "shape"), [((-1,), RGB), ((-2, -1), GRAY), ((-3, -1), VOLUME)])
def test_flips(axes: tuple[int, ...], shape: tuple[int, ...]) -> None:
    images, augmentation = pixels(shape), Flip(axes, p=0.3)
    (flips,) = augmentation.draw(shape, seeded())
    changed = augmentation.apply(images, flips)
    for sample, drawn, result in zip(images.numpy(), flips.tolist(), changed.numpy(), strict=True):
        flipped = tuple(axis for axis, flip in zip(axes, drawn, strict=True) if flip)
        np.testing.assert_array_equal(result, np.flip(sample, flipped))
    (many,) = augmentation.draw((20_000, *shape[1:]), seeded())
    np.testing.assert_allclose(many.float().mean(0), 0.3, atol=0.02)


@pytest.mark.parametrize(("planes", "shape"), [(((-2, -1),), RGB), (PLANES, VOLUME)])
def test_quarter_turns(planes: tuple[tuple[int, int], ...], shape: tuple[int, ...]) -> None:
    images, augmentation = pixels(shape), QuarterTurns(planes)
    which, quarters = augmentation.draw(shape, seeded())
    changed = augmentation.apply(images, which, quarters)
    for sample, plane, turns, result in zip(images.numpy(), which, quarters, changed.numpy(), strict=True):
        np.testing.assert_array_equal(result, np.rot90(sample, int(turns), planes[int(plane)]))
    drawn = torch.stack(augmentation.draw((20_000, *shape[1:]), seeded()))
    pairs, counts = np.unique(drawn.numpy(), axis=1, return_counts=True)
    assert pairs.shape[1] == 4 * len(planes)
    np.testing.assert_allclose(counts / 20_000, 1 / (4 * len(planes)), atol=0.02)


@pytest.mark.parametrize(("augmentation", "shape"), [(Flip((-1, -2)), RGB), (QuarterTurns(PLANES), VOLUME)])
def test_large_samples_are_changed_like_small_ones(
    monkeypatch: pytest.MonkeyPatch, augmentation: Augmentation, shape: tuple[int, ...]
) -> None:
    images, results = pixels(shape), []
    for large in (1, 1 << 40):
        monkeypatch.setattr(augment, "_LARGE", large)
        results.append(augmentation(images, seeded()))
    assert torch.equal(*results)


@pytest.mark.parametrize(("shape", "mode"), [*product((RGB, (5, 3, 8, 11), VOLUME), ("zeros", "reflect"))])
def test_crops(shape: tuple[int, ...], mode: str) -> None:
    images, augmentation = pixels(shape), Crop(3, mode)  # type: ignore[arg-type]
    (corners,) = augmentation.draw(shape, seeded())
    changed = augmentation.apply(images, corners)
    for sample, corner, result in zip(images.numpy(), corners.tolist(), changed.numpy(), strict=True):
        margins = [(0, 0), *[(3, 3)] * len(corner)]
        padded = np.pad(sample, margins) if mode == "zeros" else np.pad(sample, margins, mode="reflect")
        window = tuple(slice(at, at + side) for at, side in zip(corner, shape[2:], strict=True))
        np.testing.assert_array_equal(result, padded[(slice(None), *window)])
    (many,) = augmentation.draw((5_000, *shape[1:]), seeded())
    assert np.unique(many.numpy()).tolist() == list(range(7))


def test_rotation_of_images_equals_torchvision() -> None:
    images, augmentation = pixels(RGB, torch.float32), Rotation(40)
    (angles,) = augmentation.draw(RGB, seeded())
    changed = augmentation.apply(images, angles)
    for sample, angle, result in zip(images, angles[:, 0].rad2deg().tolist(), changed, strict=True):
        assert abs(angle) <= 40
        torch.testing.assert_close(result, tv.rotate(sample, angle, InterpolationMode.BILINEAR), atol=1e-4, rtol=0)
    stored = pixels(RGB)
    assert torch.equal(
        augmentation.apply(stored, angles), augmentation.apply(stored.float(), angles).round().to(torch.uint8)
    )


def rotate_slowly(volume: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Rotate a volume (D, H, W) by the rotation vector `turn` (x, y, z), voxel by voxel and corner by corner."""
    angle = float(np.linalg.norm(turn))
    x, y, z = turn / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    matrix = np.eye(3) + sin(angle) * cross + (1 - cos(angle)) * cross @ cross  # Rodrigues
    middle = (np.array(volume.shape) - 1) / 2
    result = np.zeros_like(volume)
    for voxel in np.ndindex(volume.shape):
        source = (matrix @ (np.array(voxel) - middle)[::-1])[::-1] + middle
        low = np.floor(source).astype(int)
        for corner in product((0, 1), repeat=3):
            at = low + corner
            if (at >= 0).all() and (at < volume.shape).all():
                result[voxel] += volume[tuple(at)] * np.prod(np.where(corner, source - low, 1 - (source - low)))
    return result


def test_rotation_of_volumes() -> None:
    shape = (3, 2, 7, 7, 7)
    images, augmentation = pixels(shape, torch.float32), Rotation(60)
    (turns,) = augmentation.draw(shape, seeded())
    changed = augmentation.apply(images, turns)
    for sample, turn, result in zip(images.numpy(), turns.double().numpy(), changed.numpy(), strict=True):
        assert np.linalg.norm(turn) <= radians(60) + 1e-6
        for channel, expected in zip(result, sample, strict=True):
            np.testing.assert_allclose(channel, rotate_slowly(expected, turn), atol=1e-5)


def test_axes_of_rotation_are_uniformly_distributed() -> None:
    (turns,) = Rotation(10).draw((20_000, 1, 5, 5, 5), seeded())
    axes = turns / turns.norm(dim=1, keepdim=True)
    np.testing.assert_allclose(axes.mean(0), 0, atol=0.03)
    np.testing.assert_allclose(axes.T @ axes / len(axes), np.eye(3) / 3, atol=0.02)


@pytest.mark.parametrize(
    ("augmentation", "column", "reference"),
    [
        (ColorJitter(brightness=0.6), 0, tv.adjust_brightness),
        (ColorJitter(contrast=0.6), 1, tv.adjust_contrast),
        (ColorJitter(saturation=(0.2, 3.0)), 2, tv.adjust_saturation),
        (ColorJitter(hue=0.5), 3, tv.adjust_hue),
    ],
)
def test_each_jitter_equals_torchvision(
    augmentation: ColorJitter, column: int, reference: Callable[[Tensor, float], Tensor]
) -> None:
    images = pixels(RGB, torch.float32)
    images[:5] = images[:5, :1]  # gray pixels, which have no hue
    (factors,) = augmentation.draw(RGB, seeded())
    changed = augmentation.apply(images, factors)
    for sample, factor, result in zip(images, factors[:, column].tolist(), changed, strict=True):
        torch.testing.assert_close(result, reference(sample, factor), atol=1e-5, rtol=0)


def test_jitter_of_uint8_pixels_is_the_rounded_jitter_of_floats() -> None:
    augmentation, images = ColorJitter(0.5, 0.5, 0.5, 0.3), pixels(RGB)
    expected = augmentation(images / 255, seeded()) * 255
    assert (augmentation(images, seeded()) - expected).abs().max() <= 0.5 + 1e-3


def test_jitter_of_gray_and_of_volumes() -> None:
    augmentation = ColorJitter(brightness=(0.5, 0.5), contrast=(0.2, 0.2))
    for shape in (GRAY, VOLUME):
        images = pixels(shape, torch.float32)
        halved = images / 2
        means = halved.flatten(1).mean(1).view(-1, *[1] * (len(shape) - 1))
        torch.testing.assert_close(augmentation(images, seeded()), means + 0.2 * (halved - means))


def test_jitter_draws_uniformly_from_its_ranges() -> None:
    (factors,) = ColorJitter(1.5, (0.5, 0.6), 0.1, 0.2).draw((20_000, 3, 4, 4), seeded())
    np.testing.assert_allclose(factors.amin(0), [0, 0.5, 0.9, -0.2], atol=1e-3)
    np.testing.assert_allclose(factors.amax(0), [2.5, 0.6, 1.1, 0.2], atol=1e-3)
    np.testing.assert_allclose(factors.mean(0), [1.25, 0.55, 1, 0], atol=0.02)


def test_erasing() -> None:
    shape = (3000, 3, 30, 40)
    augmentation = Erasing(p=0.4, share=(0.1, 0.2), ratio=(0.5, 2.0))
    (edges,) = augmentation.draw(shape, seeded())
    images = pixels((20, *shape[1:]))
    changed = augmentation.apply(images, edges[:20])
    for sample, (top, bottom, left, right), result in zip(images.clone(), edges.tolist(), changed, strict=False):
        sample[:, top:bottom, left:right] = 0
        assert torch.equal(result, sample)
    heights, widths = edges[:, 1] - edges[:, 0], edges[:, 3] - edges[:, 2]
    is_erased = heights > 0
    assert torch.equal(is_erased, widths > 0)
    assert is_erased.float().mean().item() == pytest.approx(0.4, abs=0.03)
    areas = (heights * widths)[is_erased] / (30 * 40)
    assert areas.min() >= 0.085
    assert areas.max() <= 0.22
    assert areas.mean().item() == pytest.approx(0.15, abs=0.005)
    assert (edges[:, 1] <= 30).all()
    assert (edges[:, 3] <= 40).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Flip(p=1.5), "probability"),
        (lambda: Flip((0,)), "axes of a flip are (0,)"),
        (lambda: Crop(0), "padding is 0"),
        (lambda: Crop(2, "wrap"), "mode wrap"),  # type: ignore[arg-type]
        (lambda: Rotation(0), "0 degrees"),
        (lambda: ColorJitter(hue=0.6), "hue is drawn from -0.6"),
        (lambda: ColorJitter(contrast=(2, 1)), "contrast is drawn from 2 to 1"),
        (lambda: Erasing(share=(0.5, 0.2)), "erasing has share (0.5, 0.2)"),
        (lambda: Flip((-3,))(pixels(RGB), seeded()), "no axis -3"),
        (lambda: QuarterTurns(PLANES)(pixels(RGB), seeded()), "no axis -3"),
        (lambda: QuarterTurns()(pixels((2, 1, 4, 5)), seeded()), "sides of one length, not (4, 5)"),
        (lambda: Rotation(5)(pixels((2, 1, 4, 5)), seeded()), "sides of one length, not (4, 5)"),
        (lambda: Crop(12)(pixels(RGB), seeded()), "padding is 12 for images of (12, 12)"),
        (lambda: ColorJitter(hue=0.1)(pixels(GRAY), seeded()), "need RGB images"),
        (lambda: Erasing()(pixels(VOLUME), seeded()), "leave it out for volumes"),
    ],
)
def test_invalid_arguments_are_one_line_errors(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TrainingError) as caught:
        make()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
