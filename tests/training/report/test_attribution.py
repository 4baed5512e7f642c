"""`medmnist_hf.training.report.attribution`: planted objects are located by every kind of network; formulas match."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medmnist_hf.training.data.dataset import ArrayDataset
from medmnist_hf.training.data.recipe_transforms import input_transform
from medmnist_hf.training.losses import to_scores
from medmnist_hf.training.models.factory import build_model
from medmnist_hf.training.models.wrappers import NetworkConfig, NetworkForImageClassification
from medmnist_hf.training.recipe import Recipe, make_recipe
from medmnist_hf.training.report.attribution import CELLS, grad_cam, image_maps, log_odds, occlusion
from tests.fixtures.tiny_models import CLASSES, IMAGE_MODELS, SIZE, labels, pixels, resnet, timm_model

TOKENS = ("timm ViT", "ViT", "DINOv2")
CE = "cross-entropy"
Box = tuple[slice, ...]


def volumetric() -> nn.Module:
    config = NetworkConfig(architecture="timm/test_efficientnet", volumetric="acs", **labels(CLASSES))
    return NetworkForImageClassification(config)


def planted(samples: int, sides: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor, list[Box]]:
    """Noise with one bright square or cube per image, at a random place; its channel is the class."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.3 * torch.randn(samples, CLASSES, *sides, generator=generator)
    classes, boxes = torch.arange(samples) % CLASSES, []
    for at in range(samples):
        starts = [int(torch.randint(0, 3 * side // 4 + 1, (1,), generator=generator)) for side in sides]
        boxes.append(tuple(slice(start, start + side // 4) for start, side in zip(starts, sides, strict=True)))
        images[at, int(classes[at])][boxes[at]] += 3
    return images, classes, boxes


def trained(make: Callable[[], nn.Module], sides: tuple[int, ...], steps: int, rate: float = 3e-3) -> nn.Module:
    """A network trained to classify the planted objects."""
    torch.manual_seed(0)
    model = make().train()
    images, classes, _ = planted(96, sides, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), rate)
    for chosen in torch.randint(0, len(images), (steps, 32), generator=torch.Generator().manual_seed(1)):
        optimizer.zero_grad()
        functional.cross_entropy(model(pixel_values=images[chosen]).logits, classes[chosen]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    optimizer.zero_grad()
    return model.eval()


def hits(maps: Tensor, boxes: list[Box], slack: int) -> float:
    """Share of maps whose largest value is in the box, or at most ``slack`` positions outside."""
    peaks = [np.unravel_index(int(each.argmax()), each.shape) for each in maps]
    return float(
        np.mean(
            [
                all(side.start - slack <= at < side.stop + slack for at, side in zip(peak, box, strict=True))
                for peak, box in zip(peaks, boxes, strict=True)
            ]
        )
    )


def contrast(maps: Tensor, boxes: list[Box]) -> float:
    """Median ratio of the mean inside the box to the mean of the map."""
    return float(np.median([float(each[box].mean() / each.mean()) for each, box in zip(maps, boxes, strict=True)]))


def cam(model: nn.Module, images: Tensor, labels: Sequence[int], loss: str) -> Tensor:
    """The maps of Grad-CAM, for a network with feature maps."""
    result = grad_cam(model, images, labels, loss)
    assert result is not None
    return result.maps


@pytest.fixture(scope="module")
def cnn() -> nn.Module:
    return trained(IMAGE_MODELS["timm CNN"], (SIZE, SIZE), 60)


def test_grad_cam_finds_the_planted_object(cnn: nn.Module) -> None:
    images, classes, boxes = planted(24, (SIZE, SIZE), seed=9)
    maps = cam(cnn, images, classes.tolist(), CE)
    assert hits(maps, boxes, slack=4) >= 0.9 and contrast(maps, boxes) > 2.5


def test_maps_depend_on_the_label(cnn: nn.Module) -> None:
    images = 0.3 * torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    images[:, 0, 2:10, 2:10] += 3
    images[:, 1, 20:28, 20:28] += 3
    for find in (cam, occlusion):
        first, second = (find(cnn, images, [label], CE) for label in (0, 1))
        assert first[0, :16, :16].sum() > 2 * first[0, 16:, 16:].sum(), find.__name__
        assert second[0, 16:, 16:].sum() > 2 * second[0, :16, :16].sum(), find.__name__


def test_grad_cam_of_a_transformers_network() -> None:
    model = trained(resnet, (SIZE, SIZE), 60, rate=1e-2)
    images, classes, boxes = planted(24, (SIZE, SIZE), seed=9)
    maps = cam(model, images, classes.tolist(), CE)
    assert hits(maps, boxes, slack=4) >= 0.8 and contrast(maps, boxes) > 2


def test_grad_cam_of_volumes() -> None:
    sides = (16, 16, 16)
    model = trained(volumetric, sides, 20, rate=2e-2)
    images, classes, boxes = planted(24, sides, seed=9)
    maps = cam(model, images, classes.tolist(), CE)
    assert maps.shape == (24, *sides)
    assert hits(maps, boxes, slack=2) >= 0.7 and contrast(maps, boxes) > 4


def test_occlusion_finds_the_planted_object_in_a_network_of_tokens() -> None:
    model = trained(IMAGE_MODELS["timm ViT"], (SIZE, SIZE), 60)
    images, classes, boxes = planted(24, (SIZE, SIZE), seed=9)
    assert grad_cam(model, images, classes.tolist(), CE) is None
    maps = occlusion(model, images, classes.tolist(), CE)
    assert hits(maps, boxes, slack=4) >= 0.5 and contrast(maps, boxes) > 2


@pytest.mark.parametrize("loss", [CE, "bce"])
def test_grad_cam_equals_the_class_activation_map(loss: str) -> None:
    """For a pooled map and a linear layer, Grad-CAM equals the map of Zhou et al. (CVPR 2016)."""
    model: Any = timm_model("test_resnet").eval()
    images = pixels(4)
    images = functional.interpolate(images, (128, 128))  # 4 x 4 positions at the end
    chosen_labels = [0, 2, 1, 1]
    with torch.no_grad():
        features = model.timm_model.forward_features(images)
        weight = model.timm_model.get_classifier().weight[chosen_labels]
        if loss == CE:  # minus the other labels, weighted by their probabilities without this one
            odds = model(images).logits.scatter(1, torch.tensor(chosen_labels)[:, None], -math.inf)
            weight = weight - odds.softmax(1) @ model.timm_model.get_classifier().weight
        expected = torch.einsum("bc,bchw->bhw", weight, features).clamp(min=0)
    assert features.shape[2:] == (4, 4) and (expected.amax((1, 2)) > 0).sum() >= 2
    expected = functional.interpolate(expected[:, None], (128, 128), mode="bilinear")[:, 0]
    expected /= expected.amax((1, 2), keepdim=True).clamp(min=1e-30)
    maps = cam(model, images, chosen_labels, loss)
    assert torch.allclose(maps, expected, atol=1e-4)


def hooks_of(model: nn.Module) -> list[list[int]]:
    return [[*module._forward_hooks, *module._forward_pre_hooks] for module in model.modules()]


@pytest.mark.parametrize("kind", [*IMAGE_MODELS, "volumes"])
def test_every_kind_of_network_has_a_map_and_is_unchanged(kind: str) -> None:
    torch.manual_seed(0)
    model = volumetric() if kind == "volumes" else IMAGE_MODELS[kind]()
    model.requires_grad_(False)  # as a frozen network is
    images = pixels(2, 3 if kind == "volumes" else 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.inference_mode():  # tensors cached during scoring must not interfere
        model.eval()(pixel_values=images, output_hidden_states=True)
    hooks = hooks_of(model)  # transformers itself uses hooks for hidden states
    result = grad_cam(model.train(), images, [0, 2], CE)
    assert (result is None) == (kind in TOKENS)
    maps = occlusion(model, images, [0, 2], CE) if result is None else result.maps
    assert result is None or (result.layer and len(result.positions) == images.ndim - 2)
    assert maps.dtype == torch.float32 and maps.shape == (2, *images.shape[2:]) and not maps.requires_grad
    assert all(peak == 0 or peak == pytest.approx(1, abs=0.15) for peak in maps.flatten(1).amax(1))
    assert maps.min() >= 0 and maps.max() > 0
    assert not any(module.training for module in model.modules()) and not images.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert hooks_of(model) == hooks


def test_the_layer_is_the_deepest_of_sufficient_resolution() -> None:
    model: Any = timm_model("test_resnet").eval()
    for side, layer in ((128, "layer4"), (64, "layer3")):
        result = grad_cam(model, functional.interpolate(pixels(1), (side, side)), [0], CE)
        assert result is not None and (result.layer, result.positions) == (layer, (4, 4))
        assert layer in dict(model.timm_model.named_modules())
    result = grad_cam(resnet().eval(), functional.interpolate(pixels(1), (64, 64)), [0], CE)
    assert result is not None and result.layer.startswith("hidden state ")


@pytest.mark.parametrize("find", [cam, occlusion])
def test_the_map_is_empty_if_nothing_supports_the_label(find: Any) -> None:
    model: Any = timm_model("test_resnet")
    nn.init.zeros_(model.timm_model.get_classifier().weight)
    assert not find(model, pixels(2), [0, 1], CE).any()


class Brightness(nn.Module):
    """Scores images and volumes by the sum of their pixels or voxels."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, pixel_values: Tensor) -> Any:
        total = pixel_values.flatten(1).sum(1, keepdim=True) * self.scale
        return type("Output", (), {"logits": torch.cat([total, -total], 1)})


@pytest.mark.parametrize("sides", [(14, 21), (9, 10), (14, 7, 14)])
def test_occlusion_is_the_decrease_of_the_score_by_cell(sides: tuple[int, ...]) -> None:
    images = torch.zeros(1, 1, *sides)
    corner, end = (0, 0, *[0] * len(sides)), (0, 0, *[-1] * len(sides))
    images[corner], images[end] = 2.0, 1.0
    (result,) = occlusion(Brightness(), images, [0], "bce")
    (opposite,) = occlusion(Brightness(), images, [1], "bce")
    assert result[(0,) * len(sides)] == 1 and float(result[(-1,) * len(sides)]) == pytest.approx(0.5, abs=0.05)
    assert result[tuple(side // 2 for side in sides)] == 0
    assert (
        opposite[(0,) * len(sides)] == 0 and opposite.max() == 1
    )  # hiding brightness elsewhere supports the dark label
    if all(side % CELLS == 0 for side in sides):
        first = tuple(slice(side // CELLS // 2 + 1) for side in sides)
        assert (result[first] > 0).all()


@pytest.mark.parametrize("loss", [CE, "bce", "ordinal"])
def test_log_odds_match_the_scores(loss: str) -> None:
    logits = 3 * torch.randn(50, 4, generator=torch.Generator().manual_seed(0)).double()
    if loss == "ordinal":
        logits = logits.sort(1, descending=True).values  # exceeding a higher grade is less probable
    scores = to_scores(logits.numpy(), loss)
    ends = {0, scores.shape[1] - 1}
    for label in range(scores.shape[1]):
        result = log_odds(logits, [label] * 50, loss).numpy()
        if loss != "ordinal" or label in ends:
            expected = np.log(scores[:, label] / (1 - scores[:, label]))
        else:
            reached, passed = scores[:, label:].sum(1), scores[:, label + 1 :].sum(1)
            expected = np.log(reached / (1 - reached)) - np.log(passed / (1 - passed))
        assert result == pytest.approx(expected, rel=1e-4, abs=1e-4)


def recipe_of(**options: Any) -> Recipe:
    return make_recipe({"dataset": "breastmnist", "model": "timm/test_resnet", "pretrained": False, **options})


@pytest.mark.parametrize(
    ("dataset", "options", "method"),
    [
        ("breastmnist", {"resize": "pad", "image_size": 40}, "Grad-CAM"),
        ("breastmnist", {"image_size": 56, "channels": 1}, "Grad-CAM"),
        ("bloodmnist", {"model": "timm/test_vit", "image_size": 32}, "occlusion"),
        ("retinamnist", {"loss": "ordinal"}, "Grad-CAM"),
        ("chestmnist", {"model": "timm/test_efficientnet"}, "Grad-CAM"),
        ("adrenalmnist3d", {"resize": "pad", "image_size": 32}, "Grad-CAM"),
    ],
)
def test_maps_align_with_the_stored_images(dataset: str, options: dict[str, Any], method: str) -> None:
    recipe = recipe_of(dataset=dataset, **options)
    entry = recipe.subset
    shape = entry.file(28).image_shape
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    torch.manual_seed(1)
    built = build_model(recipe)
    chosen_labels = [0, 1, len(entry.labels) - 1]
    result, description = image_maps(recipe, built, images, chosen_labels)
    assert description.startswith(method) and result.dtype == np.float32 and result.shape == (3, *shape[: entry.ndim])
    assert result.min() >= 0 and 0.5 < result.max() <= 1
    transform = input_transform(recipe, built.mean, built.std, built.image_size)
    inputs = transform(ArrayDataset(images, np.zeros(3, np.int64)).gather(range(3)))["pixel_values"]
    find: Any = cam if method.startswith("Grad-CAM") else occlusion
    loss = {"ordinal": "ordinal"}.get(recipe.loss, "bce" if dataset == "chestmnist" else CE)
    whole = find(built.model, inputs, chosen_labels, loss)
    if recipe.resize == "pad":
        edge = (built.image_size - 28) // 2
        expected = whole[(slice(None), *[slice(edge, edge + 28)] * entry.ndim)]
    else:
        mode = "trilinear" if entry.ndim == 3 else "bilinear"
        expected = functional.interpolate(whole[:, None], [28] * entry.ndim, mode=mode)[:, 0]
    assert result == pytest.approx(expected.numpy(), abs=1e-3)
