"""Weights files: reading, fitting to a network as in timm, renaming in order, and errors that name the misfit."""

import os
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.models.checkpoints import (
    PICKLED,
    convert_in_order,
    load_weights,
    read_tensors,
    strip_prefix,
)
from medmnist_hf.training.models.resnet import PAPER_NETWORKS, paper_resnet
from medmnist_hf.training.models.volumetric import to_volumetric


def made(name: str, seed: int, **options: Any) -> Any:
    torch.manual_seed(seed)
    return timm.create_model(name, **options)


def same(tensors: dict[str, Tensor], other: dict[str, Tensor], but: tuple[str, ...] = ()) -> bool:
    return all(torch.equal(value, other[name]) for name, value in tensors.items() if not name.startswith(but))


@pytest.mark.parametrize(
    "prefix", ["", "timm_model.", "network.", "module.", "model.", "_orig_mod.", "net.", "module._orig_mod.", "a.b.c."]
)
def test_a_common_prefix_is_removed(prefix: str) -> None:
    source, target = made("test_resnet", 0), made("test_resnet", 1)
    load_weights(target, {f"{prefix}{name}": value for name, value in source.state_dict().items()}, "file")
    assert same(source.state_dict(), target.state_dict())


def test_prefixes_are_removed_until_a_name_matches() -> None:
    value = torch.ones(1)
    assert list(strip_prefix({"model.model.a": value}, ["model.a"])) == ["model.a"]
    assert list(strip_prefix({"model.a": value, "model.b": value}, ["a", "b"])) == ["a", "b"]
    assert list(strip_prefix({"model.a": value, "head.b": value}, ["a", "b"])) == ["model.a", "head.b"]
    assert list(strip_prefix({"model.a": value}, ["b"])) == ["model.a"]
    assert strip_prefix({}, ["b"]) == {}


def test_a_prefix_of_some_names_is_reported() -> None:
    network = made("test_resnet", 0)
    tensors = {f"backbone.{name}": value for name, value in network.state_dict().items()} | {"loss.w": torch.ones(1)}
    assert "missing (but present with the prefix backbone.)" in refusal(network, tensors)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
def test_a_pipe_is_not_read_as_weights(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(TrainingError, match=r"cannot read .* \(it is not a regular file\)"):
        read_tensors(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"\x80\x04N.", b"PK\x03\x04 a zip", None])
@pytest.mark.parametrize("name", ["model.safetensors", "model.pth", "model.ckpt"])
def test_an_unreadable_file_is_a_one_line_error(content: bytes | None, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    hint = "give a safetensors" if name.endswith("safetensors") else r"save .*state_dict\(\)"
    for wrong in (path, tmp_path):
        with pytest.raises(TrainingError, match=r"cannot read|no named weights") as caught:
            read_tensors(wrong)
        assert "\n" not in str(caught.value)
    with pytest.raises(TrainingError, match=hint):
        read_tensors(path)


@pytest.mark.parametrize("ending", PICKLED)
@pytest.mark.parametrize("key", ["", "net", "state_dict", "model", "model_state_dict"])
def test_weights_are_read_from_files_of_torch(ending: str, key: str, tmp_path: Path) -> None:
    weights = made("test_resnet", 0).state_dict()
    path, old = tmp_path / f"new{ending}", tmp_path / f"old{ending}"
    content = {key: weights, "epoch": 3, "optimizer": {"state": {}}} if key else weights
    torch.save(content, path)
    torch.save(content, old, _use_new_zipfile_serialization=False)
    for file in (path, old):
        tensors = read_tensors(file)
        assert list(tensors) == list(weights) and same(tensors, weights)


def test_code_in_a_pickled_file_is_not_run(tmp_path: Path) -> None:
    path, sprung = tmp_path / "a.pth", tmp_path / "sprung"
    expanded = {"w": torch.ones(1).expand(2**40)}
    for content, why in (
        ({"net": {"w": Trap(sprung)}}, "it holds more than tensors: getattr"),
        ({"w": torch.ones(1), "hyper": tmp_path}, "it holds more than tensors: pathlib.PosixPath"),
        (nn.Linear(2, 2), "it holds more than tensors: torch.nn.modules.linear.Linear"),
        (expanded, "holds no named weights"),
        ([torch.ones(1)], "holds no named weights"),
        ({"w": torch.ones(1), "epoch": 3}, "holds no named weights"),
    ):
        torch.save(content, path)
        with pytest.raises(TrainingError) as caught:
            read_tensors(path)
        assert why in str(caught.value) and "\n" not in str(caught.value)
        assert "weights_only" not in str(caught.value)
    assert not sprung.exists()


@pytest.mark.parametrize("name", PAPER_NETWORKS)
def test_the_papers_released_weights_fit_its_networks(name: str) -> None:
    """Weights for 28 pixels come from pytorch-cifar, which has other names for two layers than timm."""
    source, target = (paper_resnet(name, num_classes=9) for _ in range(2))
    released = {
        key.replace(".downsample.", ".shortcut.").replace("fc.", "linear."): value
        for key, value in source.state_dict().items()
    }
    assert {"linear.bias", "layer2.0.shortcut.1.bias"} <= released.keys()
    load_weights(target, released, "resnet18_28_1.pth")
    assert same(source.state_dict(), target.state_dict())


def test_a_classifier_is_loaded_only_with_the_same_number_of_classes() -> None:
    source, alike = made("test_resnet", 0, num_classes=5), made("test_resnet", 1, num_classes=5)
    load_weights(alike, source.state_dict(), "file")
    assert same(source.state_dict(), alike.state_dict())
    other = made("test_resnet", 1, num_classes=3)
    before = other.get_classifier().weight.clone()
    load_weights(other, source.state_dict(), "file")
    assert torch.equal(other.get_classifier().weight, before)
    assert same(source.state_dict(), other.state_dict(), but=("fc.",))


def test_weights_without_classifier_and_batch_counts_can_be_loaded() -> None:
    source, target = made("test_resnet", 0, num_classes=0), made("test_resnet", 1, num_classes=3)
    tensors = {name: value for name, value in source.state_dict().items() if "num_batches" not in name}
    load_weights(target, tensors, "file")
    assert same(tensors, target.state_dict())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("test_vit", {"img_size": 48}),
        ("test_vit", {"img_size": 48, "in_chans": 1}),
        ("test_resnet", {"in_chans": 1}),
        ("test_convnext", {}),
    ],
)
def test_weights_are_adapted_as_by_timm(name: str, options: dict[str, Any]) -> None:
    """Position embeddings are resampled, the first convolution is summed, and another classifier is left out."""
    weights = made(name, 0).state_dict()
    overlay = {"state_dict": {key: value.clone() for key, value in weights.items()}}
    by_timm = made(name, 1, pretrained=True, num_classes=3, pretrained_cfg_overlay=overlay, **options)
    network = made(name, 1, num_classes=3, **options)
    load_weights(network, weights, "file")
    assert same(by_timm.state_dict(), network.state_dict())
    assert not same(made(name, 1, num_classes=3, **options).state_dict(), network.state_dict())


def test_a_gray_first_convolution_is_spread_over_three_channels() -> None:
    source, target = made("test_resnet", 0, in_chans=1).eval(), made("test_resnet", 1).eval()
    load_weights(target, source.state_dict(), "file")
    image = torch.randn(2, 1, 40, 40)
    assert torch.allclose(source(image), target(image.expand(-1, 3, -1, -1)), atol=1e-5)


def test_the_papers_networks_in_2d_and_3d() -> None:
    source, target = paper_resnet("resnet18", num_classes=3), paper_resnet("resnet18", num_classes=2, in_channels=1)
    load_weights(target, source.state_dict(), "file")
    conv = source.state_dict()["conv1.weight"]
    assert torch.allclose(target.state_dict()["conv1.weight"], conv.sum(1, keepdim=True))
    deep, other = (to_volumetric(made("test_resnet", seed, num_classes=2), "acs") for seed in (0, 1))
    load_weights(other, deep.state_dict(), "file")
    assert same(deep.state_dict(), other.state_dict())


def refusal(network: nn.Module, tensors: dict[str, Tensor]) -> str:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(TrainingError) as caught:
        load_weights(network, tensors, "weights.safetensors")
    assert same(before, network.state_dict()), "nothing is loaded if weights do not fit"
    return str(caught.value)


def test_parameters_that_do_not_fit_are_named() -> None:
    network = made("test_resnet", 0)
    weights = network.state_dict()
    wider = weights | {"layer1.0.conv1.weight": torch.ones(7, 3, 1, 1)}
    start, end = "weights.safetensors does not fit the network: ", "; name the model it was made for"
    shape = " x ".join(map(str, weights["layer1.0.conv1.weight"].shape))
    assert (
        refusal(network, wider)
        == f"{start}layer1.0.conv1.weight (7 x 3 x 1 x 1 instead of {shape}) of another shape{end}"
    )
    fewer = {name: value for name, value in weights.items() if not name.startswith("bn1.")}
    assert refusal(network, fewer) == f"{start}bn1.weight, bn1.bias, bn1.running_mean and 1 more missing{end}"
    more = weights | {"extra": torch.ones(1)}
    assert refusal(network, more) == f"{start}extra unknown to it{end}"
    assert "missing" in refusal(network, {})


@pytest.mark.parametrize(
    ("name", "options"), [("test_resnet", {}), ("test_vit", {"img_size": 32}), ("swin_tiny_patch4_window7_224", {})]
)
def test_weights_of_another_network_are_refused(name: str, options: dict[str, Any]) -> None:
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=2, **options)
    for other in ("test_convnext", "test_efficientnet", "test_vit2"):
        if other != name:
            with pytest.raises(TrainingError, match="does not fit the network: "):
                load_weights(network, made(other, 0).state_dict(), "file")


def test_weights_of_another_volumetric_mode_are_refused_by_name() -> None:
    cube, slices = (to_volumetric(made("test_resnet", 0, num_classes=2), mode) for mode in ("3d", "acs"))
    assert "conv1.0.weight (" in refusal(slices, cube.state_dict())
    assert "x 3 x 3 x 3 instead of" in refusal(slices, cube.state_dict())
    flat = made("test_resnet", 0, num_classes=2)
    assert "of another shape" in refusal(flat, slices.state_dict())


def test_tensors_are_renamed_in_order(tmp_path: Path) -> None:
    expected = made("test_resnet", 3).state_dict()
    source, out = tmp_path / "source.pth", tmp_path / "new" / "out.safetensors"
    torch.save({f"{at}.{name.rpartition('.')[2]}": value for at, (name, value) in enumerate(expected.items())}, source)
    assert convert_in_order(source, "test_resnet", out) == len(expected)
    assert same(expected, load_file(out)) and len(load_file(out)) == len(expected)


class Trap:
    """An object that runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_checkpoints_with_other_content_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    source, out, trap = tmp_path / "source.pth", tmp_path / "new" / "out.safetensors", tmp_path / "sprung"
    tensors = dict(made("test_resnet", 0).state_dict())
    swapped = {name.replace("weight", "bias"): value for name, value in tensors.items()}
    for content, expected in (
        (list(tensors.values()), "does not hold the tensors of timm's test_resnet"),
        ({"model": tensors}, "does not hold the tensors"),
        (dict(list(tensors.items())[1:]), "does not hold the tensors"),
        (swapped, "does not hold the tensors"),
        ({"weight": Trap(trap)}, "cannot read"),
    ):
        torch.save(content, source)
        with pytest.raises(TrainingError, match=expected) as caught:
            convert_in_order(source, "test_resnet", out)
        assert "\n" not in str(caught.value)
    source.write_bytes(b"no checkpoint")
    with pytest.raises(TrainingError, match="cannot read"):
        convert_in_order(source, "test_resnet", out)
    with pytest.raises(TrainingError, match="No such file"):
        convert_in_order(tmp_path / "none.pth", "test_resnet", out)
    assert not out.parent.exists() and not trap.exists()
