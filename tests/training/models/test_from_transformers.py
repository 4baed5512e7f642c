"""Models of `transformers` from folders: their weights, their head, and one-line errors."""

# Methods of transformers' classes are untyped.
# mypy: allow-untyped-calls

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.modules.module import _global_module_registration_hooks, _global_parameter_registration_hooks
from transformers import (
    AutoConfig,
    BeitConfig,
    BeitForImageClassification,
    BeitModel,
    DeiTConfig,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    SiglipConfig,
    TextNetConfig,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    ViTMAEConfig,
    ViTMAEModel,
    ViTModel,
)

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.models import from_transformers
from medmnist_hf.training.models.factory import build_model
from medmnist_hf.training.models.from_transformers import load_backbone, load_config, model_statistics
from medmnist_hf.training.models.wrappers import (
    BackboneConfig,
    BackboneForImageClassification,
    NetworkConfig,
    NetworkForImageClassification,
)
from medmnist_hf.training.recipe import Recipe, make_recipe

TINY: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 16,
}
NAMES: dict[str, Any] = {"id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}}


def recipe_of(model: Path | str, **options: Any) -> Recipe:
    return make_recipe({"dataset": "breastmnist", "model": str(model), "image_size": 32, **options})


def load(model: Path, **options: Any) -> tuple[Any, str]:
    recipe = recipe_of(model, **options)
    return load_backbone(recipe, load_config(recipe, NAMES), NAMES)


def saved(model: Any, folder: Path) -> dict[str, torch.Tensor]:
    model.save_pretrained(folder)
    return dict(model.state_dict())


def test_a_classifier_with_other_classes_is_replaced_and_the_rest_kept(tmp_path: Path) -> None:
    weights = saved(ViTForImageClassification(ViTConfig(**TINY | {"num_labels": 5})), tmp_path / "vit")
    model, origin = load(tmp_path / "vit")
    loaded = model.state_dict()
    assert origin == "weights of vit" and model.config.id2label == NAMES["id2label"]
    assert loaded["classifier.weight"].shape == (2, 16)
    assert all(torch.equal(value, loaded[name]) for name, value in weights.items() if "classifier" not in name)


def test_a_backbone_gets_the_head_of_its_family(tmp_path: Path) -> None:
    weights = saved(ViTModel(ViTConfig(**TINY), add_pooling_layer=False), tmp_path / "vit")
    model, origin = load(tmp_path / "vit")
    assert isinstance(model, ViTForImageClassification) and origin == "weights of vit"
    assert all(torch.equal(value, model.state_dict()[f"vit.{name}"]) for name, value in weights.items())


@pytest.mark.parametrize("backbone", [ViTMAEModel(ViTMAEConfig(**TINY)), DINOv3ViTModel(DINOv3ViTConfig(**TINY))])
def test_a_backbone_without_a_head_in_transformers_gets_a_linear_one(backbone: Any, tmp_path: Path) -> None:
    weights = saved(backbone, tmp_path / "backbone")
    model, _ = load(tmp_path / "backbone")
    assert isinstance(model, BackboneForImageClassification)
    assert all(torch.equal(value, model.state_dict()[f"backbone.{name}"]) for name, value in weights.items())
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        first, second = (model.eval()(images).logits for _ in range(2))
    assert first.shape == (2, 2) and torch.allclose(first, second, atol=1e-6), (
        "a masked autoencoder must not hide patches"
    )


def test_the_error_for_a_backbone_of_fixed_size_names_that_size(tmp_path: Path) -> None:
    ViTMAEConfig(**TINY).save_pretrained(tmp_path / "mae")
    recipe = recipe_of(tmp_path / "mae", image_size=28, pretrained=False, normalize="half")
    with pytest.raises(
        TrainingError, match=r"mae cannot read images of 28 pixels \(.*: give --image-size 32 or auto$"
    ):
        build_model(recipe)


def test_weights_are_converted_to_float32(tmp_path: Path) -> None:
    half: Any = ViTModel(ViTConfig(**TINY))
    saved(half.bfloat16(), tmp_path / "vit")
    model, _ = load(tmp_path / "vit")
    assert {value.dtype for value in model.parameters()} == {torch.float32}


def test_missing_weights_are_reported(tmp_path: Path) -> None:
    """BEiT with a pooler has a norm that the saved model without a pooler lacks."""
    saved(BeitModel(BeitConfig(**TINY), add_pooling_layer=False), tmp_path / "beit")
    model, origin = load(tmp_path / "beit")
    assert isinstance(model, BeitForImageClassification)
    assert origin == "weights of beit, but beit.pooler.layernorm.bias, beit.pooler.layernorm.weight at random"


def test_random_weights_and_those_of_a_file(tmp_path: Path) -> None:
    weights = saved(ViTForImageClassification(ViTConfig(**TINY)), tmp_path / "vit")
    model, origin = load(tmp_path / "vit", pretrained=False)
    other = {name: value + 1 for name, value in weights.items()}
    assert origin == "random initialization"
    assert not any(torch.equal(value, model.state_dict()[name]) for name, value in other.items())
    save_file(other, tmp_path / "mine.safetensors")
    model, origin = load(tmp_path / "vit", checkpoint=str(tmp_path / "mine.safetensors"))
    assert origin == "weights of mine.safetensors"
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in other.items())


def test_statistics_come_from_the_processor(tmp_path: Path) -> None:
    saved(ViTModel(ViTConfig(**TINY)), tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    with pytest.raises(TrainingError, match=r"has no preprocessor_config\.json .* give --normalize half"):
        model_statistics(recipe_of(tmp_path), config)
    ViTImageProcessor(image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6]).save_pretrained(tmp_path)
    assert model_statistics(recipe_of(tmp_path), config) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])


def refusal(model: Path | str, **options: Any) -> str:
    recipe = recipe_of(model, **options)
    with pytest.raises(TrainingError) as caught:
        load_backbone(recipe, load_config(recipe, NAMES), NAMES)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_unknown_models_are_one_line_errors_with_a_suggestion(tmp_path: Path) -> None:
    """The Hub's client is offline in the tests."""
    assert "did you mean timm/resnet34?" in refusal("resnet34")
    assert "by id or folder, timm/NAME, or resnet18" in refusal("google/no-such-model")
    assert "cannot load" in refusal(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "none"}', encoding="utf-8")
    assert "cannot load" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    assert "cannot load" in refusal(tmp_path)


def test_code_and_pickles_in_a_folder_are_not_run(tmp_path: Path) -> None:
    config = ViTConfig(**TINY)
    config.auto_map = {"AutoConfig": "mine.Config", "AutoModelForImageClassification": "mine.Model"}
    config.save_pretrained(tmp_path)
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\n", encoding="utf-8")
    torch.save(ViTModel(config).state_dict(), tmp_path / "pytorch_model.bin")
    assert "no file named model.safetensors" in refusal(tmp_path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "part.safetensors", "preprocessor_config.json"])
@pytest.mark.parametrize("device", [False, True])
def test_a_folder_with_a_pipe_or_a_device_is_refused(tmp_path: Path, name: str, *, device: bool) -> None:
    folder = tmp_path / "vit"
    ViTConfig(**TINY).save_pretrained(folder)
    (folder / name).unlink(missing_ok=True)
    if name == "part.safetensors":
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": f"../{name}"}}))
    path = tmp_path / name if name == "part.safetensors" else folder / name
    if device:
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(path)
    with pytest.raises(TrainingError, match=rf"^cannot load \S*/vit \({name} in it is not a regular file\): name "):
        load(folder)


def test_models_that_do_not_support_a_recipe_are_refused(tmp_path: Path) -> None:
    saved(ViTModel(ViTConfig(**TINY)), tmp_path / "vit")
    vit = tmp_path / "vit"
    assert "vit reads 3 channels: give --channels 3" in refusal(vit, channels=1)
    for config in (
        TextNetConfig(stem_num_channels=1),
        SiglipConfig(vision_config=TINY | {"num_channels": 1}),
        BackboneConfig(backbone_config={"model_type": "vit", **TINY, "num_channels": 1}),
    ):
        config.save_pretrained(tmp_path / config.model_type)
        assert load_config(recipe_of(tmp_path / config.model_type, channels=1), NAMES).model_type == config.model_type
        assert "reads 1 channels: give --channels 1" in refusal(tmp_path / config.model_type, channels=3)
    assert "vit has no stochastic depth: leave drop_path 0" in refusal(vit, drop_path=0.1)
    assert "cannot read the volumes of organmnist3d" in refusal(vit, dataset="organmnist3d")
    own = NetworkForImageClassification(NetworkConfig(architecture="timm/test_resnet", **NAMES))
    saved(own, tmp_path / "own")
    assert f"--model timm/test_resnet --checkpoint {tmp_path}/own/model.safetensors" in refusal(tmp_path / "own")


def test_stochastic_depth_is_set_in_the_configuration(tmp_path: Path) -> None:
    saved(BeitModel(BeitConfig(**TINY)), tmp_path)
    config: Any = load_config(recipe_of(tmp_path, drop_path=0.3), NAMES)
    assert config.drop_path_rate == 0.3


def test_weights_of_another_shape_are_refused_by_name(tmp_path: Path) -> None:
    saved(ViTModel(ViTConfig(**TINY), add_pooling_layer=False), tmp_path / "vit")
    wide = saved(ViTForImageClassification(ViTConfig(**TINY | {"intermediate_size": 48})), tmp_path / "wide")
    file = tmp_path / "wide" / "model.safetensors"
    text = refusal(tmp_path / "vit", checkpoint=str(file))
    assert text.startswith(f"{file} does not fit the model: vit.") and "of another shape; name the model" in text
    save_file({f"other_{name}": value for name, value in wide.items()}, file)
    assert "missing; name the model" in refusal(tmp_path / "vit", checkpoint=str(file))
    file.write_bytes(b"none")
    assert "give a safetensors file" in refusal(tmp_path / "vit", checkpoint=str(file))
    assert "give a safetensors file" in refusal(tmp_path / "vit", checkpoint=str(tmp_path / "no.safetensors"))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"num_hidden_layers": 10**9}, "its config.json has a number above 10000000 for 'num_hidden_layers'"),
        ({"num_labels": 10**9}, "its config.json has a number above 10000000 for 'num_labels'"),
        ({"inner": [{"depths": [2, 10**9]}]}, "its config.json has a number above 10000000 for '1'"),
        ({"num_hidden_layers": 1000}, "it has more than 500 layers"),
        ({"hidden_size": 10**7, "num_attention_heads": 1}, "its parameters do not fit into memory"),
    ],
)
@pytest.mark.parametrize("pretrained", [False, True])
def test_an_oversized_configuration_is_refused_at_once(
    values: dict[str, Any], why: str, pretrained: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_transformers, "MOST_LAYERS", 500)
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"} | TINY | values))
    with pytest.raises(TrainingError) as caught:
        load(tmp_path, pretrained=pretrained)
    assert str(caught.value).startswith(f"cannot load {tmp_path} ({why}): ")
    assert not _global_module_registration_hooks and not _global_parameter_registration_hooks


def test_weights_of_a_file_may_have_a_prefix(tmp_path: Path) -> None:
    weights = saved(ViTForImageClassification(ViTConfig(**TINY | {"num_labels": 2})), tmp_path / "vit")
    for prefix in ("module.", "model._orig_mod."):
        torch.save(
            {"state_dict": {f"{prefix}{name}": value for name, value in weights.items()}}, tmp_path / "own.ckpt"
        )
        model, _ = load(tmp_path / "vit", checkpoint=str(tmp_path / "own.ckpt"))
        assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_a_configuration_with_several_classes_must_name_one(tmp_path: Path) -> None:
    DeiTConfig(**TINY).save_pretrained(tmp_path)
    classes = '["DeiTForImageClassification"] or ["DeiTForImageClassificationWithTeacher"]'
    for options in ({}, {"pretrained": False}):
        assert refusal(tmp_path, **options) == (
            f'cannot load {tmp_path} (its config.json does not name its class): add "architectures": {classes}'
        )
    values = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    values["architectures"] = ["DeiTForImageClassification"]
    (tmp_path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    assert type(load(tmp_path, pretrained=False)[0]).__name__ == "DeiTForImageClassification"
