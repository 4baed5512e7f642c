"""Models of this project: saving and loading with the Auto classes, and predictions from stored images."""

# Methods of transformers' classes are untyped.
# mypy: allow-untyped-calls

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    ConvNextConfig,
    PreTrainedConfig,
    SamVisionConfig,
    ViTMAEConfig,
)

from medmnist_hf.errors import TrainingError
from medmnist_hf.own_code.names import pin_code
from medmnist_hf.training.data.transforms import BatchTransform
from medmnist_hf.training.losses import to_scores
from medmnist_hf.training.models.factory import build_model
from medmnist_hf.training.models.processors import CenteringImageProcessor
from medmnist_hf.training.models.saving import load_model, save_model
from medmnist_hf.training.models.wrappers import (
    BackboneConfig,
    BackboneForImageClassification,
    NetworkConfig,
    NetworkForImageClassification,
    backbone_features,
    check_name,
    make_network,
    own_network,
)
from medmnist_hf.training.recipe import make_recipe
from tests.fixtures.own_code import write_code

TINY: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 16,
}
NAMES: dict[str, Any] = {"id2label": {0: "benign", 1: "malignant", 2: "neither"}}
VOLUMES = (2, 3, 32, 32, 32)


def stirred(model: nn.Module) -> nn.Module:
    """Perturb all tensors of a model, so that none has its initial 0 or 1, and set it to evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                noise = torch.rand(value.shape, generator=generator)
                value.copy_(0.5 + noise if name.endswith("running_var") else value + 0.1 * (noise - 0.5))
    return model.eval()


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (2, 3, 28, 28)),
        ({"stem": "imagenet", "in_channels": 1}, (2, 1, 40, 40)),
        ({"volumetric": "acs", "in_channels": 1}, (2, 1, 8, 8, 8)),
        ({"architecture": "timm/test_resnet", "volumetric": "3d"}, VOLUMES),
        ({"architecture": "timm/test_resnet", "volumetric": "2.5d", "depth_stride": True}, VOLUMES),
        ({"architecture": "timm/test_resnet", "volumetric": "2.5d", "slice_pooling": "max"}, VOLUMES),
        ({"architecture": "timm/test_efficientnet", "volumetric": "2.5d", "model_args": {"drop_rate": 0.5}}, VOLUMES),
    ],
)
def test_a_saved_network_is_rebuilt_with_the_same_outputs(
    options: dict[str, Any], shape: tuple[int, ...], tmp_path: Path
) -> None:
    model: Any = stirred(NetworkForImageClassification(NetworkConfig(**options, **NAMES)))
    model.save_pretrained(tmp_path)
    again = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert isinstance(again, NetworkForImageClassification) and again.config.id2label == NAMES["id2label"]
    inputs = torch.randn(shape)
    with torch.inference_mode():
        assert torch.allclose(model(inputs).logits, again(pixel_values=inputs).logits, rtol=1e-4)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    own = {name: getattr(again.config, name) for name in options}
    assert own == options


def test_each_volumetric_option_changes_the_outputs() -> None:

    def logits(**options: Any) -> Tensor:
        torch.manual_seed(0)
        config = NetworkConfig(architecture="timm/test_resnet", **options, **NAMES)
        model = NetworkForImageClassification(config).train(False)
        with torch.inference_mode():
            return torch.as_tensor(model(torch.linspace(0, 999, 3 * 32**3).sin().view(1, 3, 32, 32, 32)).logits)

    known = [logits(volumetric=mode) for mode in ("2.5d", "3d", "acs")] + [
        logits(volumetric="2.5d", depth_stride=True)
    ]
    for at, one in enumerate(known):
        assert all(not torch.allclose(one, other) for other in known[at + 1 :])


def test_timm_names_differ_from_those_of_the_paper() -> None:
    paper, timms = make_network("resnet18", 2, 3), make_network("timm/resnet18", 2, 3)
    assert (paper.conv1.kernel_size, timms.conv1.kernel_size) == ((3, 3), (7, 7))
    assert make_network("resnet18", 2, 3, "imagenet").conv1.kernel_size == (7, 7)
    with torch.device("meta"):
        model: Any = NetworkForImageClassification(NetworkConfig(architecture="timm/resnet18", **NAMES))
    assert model.network.conv1.kernel_size == (7, 7)


def test_an_existing_network_is_wrapped_without_a_copy() -> None:
    def wrapped(network: nn.Module, volumetric: str) -> Any:
        config = NetworkConfig(architecture="timm/test_resnet", volumetric=volumetric, **NAMES)
        return NetworkForImageClassification(config, network).network

    network = make_network("timm/test_resnet", 3, 3)
    assert wrapped(network, "") is network
    deep = wrapped(network, "2.5d")
    assert torch.equal(deep.fc.weight, network.fc.weight)
    assert torch.equal(deep.layer1[0].conv1.weight[:, :, 0], network.layer1[0].conv1.weight)


def test_a_gray_network_reads_gray_images_given_as_rgb() -> None:
    model = stirred(NetworkForImageClassification(NetworkConfig(in_channels=1, **NAMES)))
    images = torch.randn(2, 1, 28, 28)
    with torch.inference_mode():
        assert torch.allclose(model(images).logits, model(images.expand(-1, 3, -1, -1)).logits, atol=1e-5)


@pytest.mark.parametrize("loss", ["cross-entropy", "bce", "ordinal"])
@pytest.mark.parametrize("volumetric", ["", "acs"])
def test_predictions_equal_the_scores_of_transformed_images(loss: str, volumetric: str) -> None:
    transform: dict[str, Any] = {"mean": [0.2], "std": [0.3], "channels": 3, "size": 32, "fit": "resize"}
    config = NetworkConfig(
        architecture="timm/test_resnet", volumetric=volumetric, transform=transform, loss=loss, **NAMES
    )
    model: Any = stirred(NetworkForImageClassification(config))
    shape = (5, 9, 9, 9) if volumetric else (5, 9, 9)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    inputs = BatchTransform(**transform)({"images": torch.from_numpy(images), "labels": torch.zeros(5)})
    with torch.inference_mode():
        expected = to_scores(model(inputs["pixel_values"]).logits.numpy(), loss)
    for training, batch_size in ((True, 2), (False, 64)):
        model.train(training)
        scores = model.predict(images, batch_size)
        assert scores.dtype == np.float64 and np.allclose(scores, expected, atol=1e-6)
        assert model.training is training
    assert scores.shape == (5, 4 if loss == "ordinal" else 3)


def test_images_of_another_type_or_shape_are_refused() -> None:
    config = NetworkConfig(architecture="timm/test_resnet", transform={"channels": 3, "size": 32}, **NAMES)
    flat: Any = NetworkForImageClassification(config)
    deep_config = copy.deepcopy(config)
    deep_config.volumetric = "2.5d"
    deep: Any = NetworkForImageClassification(deep_config)
    assert flat.predict(np.zeros((2, 32, 32, 3), np.uint8)).shape == (2, 3)
    refused: list[tuple[Any, Any, str]] = [
        (flat, np.zeros((2, 32, 32)), r"float64 \(2, 32, 32\): give uint8 \(N, H, W\) or \(N, H, W, 3\)"),
        (flat, np.zeros((2, 8, 32, 32), np.uint8), r"uint8 \(2, 8, 32, 32\)"),
        (flat, np.zeros((0, 32, 32), np.uint8), r"\(0, 32, 32\)"),
        (flat, np.zeros((32, 32), np.uint8), r"\(32, 32\)"),
        (deep, np.zeros((2, 32, 32), np.uint8), r"give uint8 \(N, D, H, W\)"),
        (deep, np.zeros((2, 8, 8, 8, 3), np.uint8), r"give uint8 \(N, D, H, W\)"),
    ]
    for model, images, expected in refused:
        with pytest.raises(TrainingError, match=expected):
            model.predict(images)


SAM: dict[str, Any] = {name: value for name, value in TINY.items() if name != "intermediate_size"}
SAM |= {"output_channels": 8, "num_pos_feats": 4, "mlp_dim": 16, "window_size": 0, "global_attn_indexes": [0]}
BACKBONES: dict[str, PreTrainedConfig] = {
    "own pooling": ConvNextConfig(hidden_sizes=[4, 4, 8, 8], depths=[1, 1, 1, 1]),
    "tokens": ViTMAEConfig(**TINY, mask_ratio=0.0),
    "positions": SamVisionConfig(**SAM),
}


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_saved_backbone_with_a_head_is_rebuilt_with_the_same_outputs(kind: str, tmp_path: Path) -> None:
    backbone = AutoModel.from_config(BACKBONES[kind]).eval()
    inputs = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        features = backbone_features(backbone, inputs)
        hidden = backbone(inputs).last_hidden_state
    if kind == "tokens":
        assert torch.allclose(features, hidden.mean(1))
    elif kind == "positions":
        assert hidden.ndim == 4 and torch.allclose(features, hidden.flatten(2).mean(2), atol=1e-6)
    config = BackboneConfig(backbone_config=BACKBONES[kind].to_dict(), width=features.shape[1], **NAMES)
    model: Any = stirred(BackboneForImageClassification(config, backbone))
    model.save_pretrained(tmp_path)
    again = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert isinstance(again, BackboneForImageClassification)
    with torch.inference_mode():
        logits = model(inputs).logits
        assert torch.allclose(logits, again(inputs).logits, atol=1e-6)  # not exact: MAE sums in a random order
        expected = again.classifier(backbone_features(again.backbone, inputs))
    assert logits.shape == (2, 3) and torch.allclose(logits, expected, atol=1e-6)


def test_the_image_processor_is_registered_with_the_auto_classes(tmp_path: Path) -> None:
    side = {"height": 8, "width": 8}
    CenteringImageProcessor(size=side, do_pad=True, pad_size=side).save_pretrained(tmp_path)
    assert type(AutoImageProcessor.from_pretrained(tmp_path)) is CenteringImageProcessor


@pytest.mark.parametrize(
    ("name", "pretrained", "expected"),
    [
        ("resnet19", False, "timm has no model 'resnet19': did you mean resnet18"),
        ("", False, "timm has no model '': timm.list_models"),
        ("resnet18.a9_in1k", False, "timm has no weights 'a9_in1k' of resnet18: choose from a3_in1k"),
        ("resnet18.zzzz", False, "choose from a1_in1k, a2_in1k, a3_in1k and 4 more"),
        ("test_nfnet.none", True, "timm has no weights 'none' of test_nfnet"),
        ("vit_base_patch16_18x2_224", True, "no weights of timm/vit_base_patch16_18x2_224: give --no-pretrained or"),
    ],
)
def test_unknown_names_are_refused_with_a_suggestion(name: str, pretrained: bool, expected: str) -> None:
    with pytest.raises(TrainingError, match=expected) as caught:
        check_name(name, pretrained=pretrained)
    assert "\n" not in str(caught.value)


def test_missing_weights_and_invalid_options_are_one_line_errors() -> None:
    """The Hub's client is offline in the tests."""
    with pytest.raises(TrainingError, match=r"cannot fetch the weights of timm/test_resnet .*--checkpoint") as caught:
        make_network("timm/test_resnet", 2, 3, pretrained=True)
    assert "\n" not in str(caught.value)
    with pytest.raises(TrainingError, match=r"cannot fetch the weights of timm/test_vit .*--checkpoint"):
        make_network("timm/test_vit", 2, 3, pretrained=True, img_size=224)  # the error does not suggest another size
    with pytest.raises(TrainingError, match=r"cannot make timm/test_resnet .*unexpected keyword.*'wings'"):
        make_network("timm/test_resnet", 2, 3, wings=2)


OF_IMAGES = {"num_classes": 4, "in_channels": 3, "image_size": 28, "ndim": 2}


@pytest.mark.parametrize(("function", "ndim"), [("build", 2), ("features", 2), ("features", 3)])
def test_a_function_of_a_users_file_makes_a_network(tmp_path: Path, function: str, ndim: int) -> None:
    torch.manual_seed(0)
    network = own_network(f"{write_code(tmp_path)}:{function}", **OF_IMAGES | {"ndim": ndim})
    norms = [value for name, value in network.named_buffers() if name.endswith("running_mean")]
    assert norms and not any(value.any() for value in norms), "the trial batch leaves no trace"
    assert network(torch.zeros(2, 3, *(28,) * ndim)).shape == (2, 4) and network.training
    assert isinstance(getattr(network, "classifier", None), nn.Linear) == (function == "features")


MODULE = """
import torch
from torch import nn

class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3 * 28 * 28, 4)

    def forward(self, images):
        logits = self.linear(images.flatten(1))
        return {result}

def build(num_classes): return Own()
def features(): return Own()
def nothing(num_classes): return Own
"""


@pytest.mark.parametrize(
    ("result", "function", "expected"),
    [
        ("(logits, 0)", "build", r"a tuple for a batch of shape \(3, 3, 28, 28\): return logits of shape \(3, 4\)"),
        ("logits[:, :3]", "build", r"float32 of shape \(3, 3\) for .* return logits of shape \(3, 4\), or features"),
        ("logits[:1]", "build", r"returned float32 of shape \(1, 4\) for"),
        ("logits > 0", "build", r"returned bool of shape \(3, 4\) for"),
        ("logits / 0", "build", "returned values that are not finite for random images: check its weights"),
        ("logits[:, :, None]", "features", r"\(3, 4, 1\) for .*: return float features of shape \(3, F\)"),
        ("(logits, 0) if self.training else logits", "build", "returned a tuple"),
        ("self.conv(images)", "build", r"cannot read a batch .* \(AttributeError: 'Own' .* attribute 'conv', line 12"),
        ("logits", "nothing", "my.py:nothing returned a type: return a torch.nn.Module"),
    ],
)
def test_a_network_with_other_outputs_is_refused_in_one_line(
    tmp_path: Path, result: str, function: str, expected: str
) -> None:
    file = write_code(tmp_path, MODULE.format(result=result))
    with pytest.raises(TrainingError, match=expected):
        own_network(f"{file}:{function}", **OF_IMAGES)


@pytest.mark.parametrize("statement", ["raise ValueError('late')", "raise SystemExit(0)"])
def test_a_network_that_fails_later_is_a_one_line_error(tmp_path: Path, statement: str) -> None:
    late = f"if len(images) > 4: {statement}\n        logits ="
    file = write_code(tmp_path, MODULE.format(result="logits").replace("logits =", late))
    model: Any = build_model(make_recipe({"dataset": "bloodmnist", "model": f"{file}:features"})).model
    with pytest.raises(TrainingError, match=r"^my\.py:features failed \(\w+: (late|0), line 11\): fix it"):
        model(torch.rand(5, 3, 28, 28))


def test_loading_a_model_never_runs_a_file_unasked(tmp_path: Path) -> None:
    recipe = {"dataset": "bloodmnist", "model": pin_code(f"{write_code(tmp_path)}:features", "model_file")}
    built = build_model(make_recipe(recipe))
    save_model(built, tmp_path / "model")
    with pytest.raises(TrainingError, match=r"is a network of a file, my\.py:features#\w{16}, which is not run"):
        load_model(tmp_path / "model")
    images = torch.rand(2, 3, 28, 28)
    loaded: Any = load_model(tmp_path / "model", recipe["model"])
    with torch.inference_mode():
        assert torch.equal(loaded(images).logits, built.model.eval()(images).logits)
    assert loaded.predict(np.zeros((2, 28, 28, 3), np.uint8)).shape == (2, 8)
    write_code(tmp_path, "def features(): raise SystemExit")
    with pytest.raises(TrainingError, match=r"trained with 'my\.py:features#\w{16}', not my\.py:features#\w{16}"):
        load_model(tmp_path / "model", f"{tmp_path}/my.py:features")
