"""``scripts/bench/bench_probes.py``: features, kernels and the choice among them, which never sees the test split."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from medmnist_hf.catalog import Task
from medmnist_hf.errors import TrainingError
from scripts.bench import bench_probes
from scripts.bench.bench_probes import (
    Block,
    Products,
    app,
    cross_validate,
    read_features,
    ridge_scores,
    similar_groups,
    source_sets,
    surfaces,
)
from tests.conftest import Phantoms
from tests.fixtures.runs import build_all

SOURCE = ("tf_efficientnet_lite0", 32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / f"{SOURCE[0]}.safetensors"
    save_file(timm.create_model(SOURCE[0], pretrained=False).state_dict(), path)
    return path


def stages(rows: int, seed: int = 0) -> list[Block]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(rows, 2, 3 * width)).astype(np.float32) for width in (2, 2, 3, 3, 4, 4, 5, 6)]


def test_the_features_are_those_of_the_network_averaged_over_the_mirror_image(weights: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    found = read_features(images, weights, SOURCE[1], tmp_path)
    mirrored = read_features(images[..., ::-1], weights, SOURCE[1], None)
    for stage, other in zip(found, mirrored, strict=True):
        np.testing.assert_allclose(stage, other, rtol=1e-4, atol=1e-5)
    network: Any = timm.create_model(SOURCE[0], checkpoint_path=str(weights)).eval()
    inputs = torch.from_numpy(images)[:, None].expand(-1, 3, -1, -1).float() / 255
    inputs = torch.nn.functional.interpolate(inputs, (32, 32), mode="bicubic").clamp(0, 1) * 2 - 1
    with torch.inference_mode():
        last = network.forward_head(network.forward_features(inputs), pre_logits=True)
        flipped = network.forward_head(network.forward_features(inputs.flip(3)), pre_logits=True)
    np.testing.assert_allclose(found[-1][:, 0, : last.shape[1]], (last + flipped) / 2, rtol=1e-3, atol=1e-4)
    assert len([*tmp_path.iterdir()]) == 1
    for stage, stored in zip(found, read_features(images, weights, SOURCE[1], tmp_path), strict=True):
        np.testing.assert_array_equal(stage, stored)


def test_a_shape_is_shown_by_its_thickness_and_its_distance_from_both_ends() -> None:
    masks = torch.zeros(1, 28, 2, 2)
    masks[0, 7:9, 0, 0] = 1
    thickness, first, last = surfaces(masks, 16)[0]
    assert (thickness[0, 0], first[0, 0], last[0, 0]) == pytest.approx((2 / 16, 21 / 28, 9 / 28))
    assert not any(image[1, 1] for image in (thickness, first, last))


def test_ridge_regression_with_a_linear_kernel_is_that_of_the_features() -> None:
    features, fitted = stages(40), np.arange(40) < 30
    targets = np.eye(3)[np.arange(30) % 3]
    products = Products.of(features, fitted, "last", "mean")
    scores = ridge_scores(products.kernel(fitted, "linear"), fitted, targets, 0.1)
    values = features[7][:, :, :6].reshape(40, -1).astype(np.float64)
    values = (values - values[fitted].mean(0)) / values[fitted].std(0) / np.sqrt(12)
    mean = targets.mean(0)
    solved = np.linalg.solve(values[fitted].T @ values[fitted] + 0.1 * np.eye(12), values[fitted].T @ (targets - mean))
    np.testing.assert_allclose(scores, values[~fitted] @ solved + mean, atol=1e-4)


def test_held_out_rows_do_not_affect_what_is_fitted() -> None:
    features, fitted = stages(20), np.arange(20) < 15
    changed = [stage.copy() for stage in features]
    for stage in changed:
        stage[15:] += 5
    for kind in bench_probes.KERNELS:
        kernel, other = (
            Products.of(part, fitted, "all", "mean").kernel(fitted, kind)[fitted] for part in (features, changed)
        )
        np.testing.assert_array_equal(kernel, other)


def test_a_signal_in_the_features_is_found_and_noise_is_not() -> None:
    labels = np.arange(60) % 2
    noise, signal = stages(60), stages(60)
    for stage in signal:
        stage[:, 0, :2] += 3 * labels[:, None]
    for features, low, high in ((noise, 0.2, 0.8), (signal, 0.95, 1.0)):
        aucs = cross_validate({SOURCE: features}, labels, Task.BINARY, 1, None)
        assert len(aucs) == 3 * 2 * 2 * 6
        assert low <= np.median([*aucs.values()]) <= high


def test_networks_are_combined_by_size_and_all_together() -> None:
    one, two, other = ("a", 112), ("b", 112), ("a", 160)
    assert source_sets([one, two, other]) == [(one,), (two,), (other,), (one, two), (one, two, other)]


def test_images_of_similar_color_are_one_group() -> None:
    images = np.repeat(np.array([10, 200, 12, 198], np.uint8), 28 * 28 * 3).reshape(4, 28, 28, 3)
    first, second, third, fourth = similar_groups(images, 2)
    assert first == third != second == fourth


@pytest.mark.parametrize(("flag", "options"), [("retinamnist", ["--groups", "8"]), ("adrenalmnist3d", ["--no-test"])])
def test_all_candidates_and_the_test_scores_of_the_best_are_printed(
    flag: str, options: list[str], phantoms: Phantoms, weights: Path, tmp_path: Path
) -> None:
    build_all(phantoms, tmp_path, flag, rows=24)
    common = ["--root", str(tmp_path), "--weights", str(weights), "--image-size", "32", "--repeats", "1"]
    result = CliRunner().invoke(app, [flag, *common, *options], catch_exceptions=False)
    assert result.exit_code == 0
    assert "72 candidates" in result.output and result.output.count("lite0 32") == 13
    is_scored = "--no-test" not in options
    assert ("test auc: " in result.output) == ("test acc: " in result.output) == is_scored


def test_a_subset_of_many_findings_is_refused(weights: Path) -> None:
    with pytest.raises(TrainingError, match="chestmnist has several labels per image"):
        CliRunner().invoke(app, ["chestmnist", "--weights", str(weights)], catch_exceptions=False)


def test_weights_are_named_after_their_network(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").touch()
    for name in ("weights.safetensors", "tf_efficientnet_lite0.safetensors"):
        with pytest.raises(TrainingError, match="is not weights of an EfficientNet of timm"):
            CliRunner().invoke(app, ["breastmnist", "--weights", str(tmp_path / name)], catch_exceptions=False)
