"""Stores by a model are bitwise equal for any shards and any interruption, and are verified against the images."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    SiglipConfig,
    SiglipModel,
    SiglipVisionModel,
)

import medmnist_hf
from medmnist_hf.catalog import SPLITS, subset
from medmnist_hf.conversion.build import build_config
from medmnist_hf.conversion.sharding import RowRange
from medmnist_hf.conversion.sources.source import Folder
from medmnist_hf.data.configs import open_config
from medmnist_hf.data.rows import BuiltRows
from medmnist_hf.embeddings.writing import shard_rows
from medmnist_hf.errors import BuildError, SourceError, VerificationError
from medmnist_hf.files import sha256_of
from medmnist_hf.manifest import MANIFEST_NAME, WORK_DIR
from medmnist_hf.training.embedding.extractor import Extractor
from medmnist_hf.training.embedding.store import FeatureJob, features_between, verify_store
from medmnist_hf.training.models.factory import build_model
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.methods import CPU
from tests.fixtures.paths import ROOT
from tests.fixtures.runs import tiny

ROWS = 40


def job_of(root: Path, out: Path, flag: str = "bloodmnist", **options: Any) -> tuple[FeatureJob, Extractor]:
    torch.manual_seed(0)
    dtype = options.pop("dtype", "float32")
    recipe = tiny(root, flag, **{"method": "knn", "batch_size": 16} | options)
    built = build_model(recipe)
    job = FeatureJob(recipe, built, open_config(flag, 28, root), out, dtype)
    return job, Extractor(recipe, built, CPU)


@pytest.fixture(scope="module")
def dist(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dist")
    build(phantoms, root, "bloodmnist", 28, rows=ROWS, rows_per_shard=12)
    return root


@pytest.mark.parametrize("flag", ["bloodmnist", "chestmnist", pytest.param("adrenalmnist3d", marks=pytest.mark.slow)])
def test_bits_do_not_depend_on_shards(flag: str, phantoms: Phantoms, tmp_path: Path) -> None:
    whole: dict[str, bytes] = {}
    counts = []
    for rows_per_shard in (100, 27, 14):  # 1, 2 and 4 shards of train, whose ends lie within batches of 16
        root, out = tmp_path / f"dist{rows_per_shard}", tmp_path / f"features{rows_per_shard}"
        build(phantoms, root, flag, 28, rows=ROWS, rows_per_shard=rows_per_shard)
        job, extractor = job_of(root, out, flag)
        written = job.make(extractor)
        counts.append(len(written.manifest.splits["train"].shards))
        for split in SPLITS:
            features, _ = medmnist_hf.load_features(flag, 28, split, out, model=job.recipe.model, data=root / flag)
            assert whole.setdefault(split, features.tobytes()) == features.tobytes()
        assert verify_store(job, extractor) == (written.manifest.rows, 0.0)
    assert counts[0] == 1 and counts[1] in {2, 3} and counts[2] >= 4


def test_any_ranges_have_the_bits_of_the_whole(dist: Path, tmp_path: Path) -> None:
    job, extractor = job_of(dist, tmp_path)
    rows = BuiltRows(job.config)
    whole = np.concatenate(list(features_between(rows, extractor, "train", [RowRange(0, ROWS)])))
    for ranges in ([RowRange(3, 5)], [RowRange(0, 1), RowRange(14, 18), RowRange(39, 40)], [RowRange(17, 33)]):
        parts = np.concatenate(list(features_between(rows, extractor, "train", ranges)))
        expected = np.concatenate([whole[part.start : part.stop] for part in ranges])
        assert parts.tobytes() == expected.tobytes()


_KILLED = """
import sys, time, torch
sys.path.insert(0, {tests!r})
from pathlib import Path
from tests.training.embedding.test_store import job_of

job, extractor = job_of(Path({dist!r}), Path({out!r}))
compute = extractor._compute
def slowly(images):
    time.sleep(0.5)
    return compute(images)
extractor._compute = slowly
job.make(extractor)
"""


@pytest.mark.slow
def test_a_killed_process_is_resumed_with_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    whole = job_of(dist, tmp_path / "whole")
    expected = whole[0].make(whole[1])
    code = _KILLED.format(tests=str(ROOT), dist=str(dist), out=str(tmp_path / "killed"))
    process = subprocess.Popen([sys.executable, "-c", code])
    stage = tmp_path / "killed/bloodmnist" / WORK_DIR / expected.folder.name
    deadline = time.monotonic() + 120
    while not list(stage.glob("*.parquet.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed/bloodmnist" / expected.folder.name).exists()
    job, extractor = job_of(dist, tmp_path / "killed")
    written = job.make(extractor)
    assert 0 < written.extracted < expected.manifest.rows
    for shard in (*(shard.name for shard in expected.manifest.shards), MANIFEST_NAME):
        assert sha256_of(written.folder / shard) == sha256_of(expected.folder / shard)


def test_shards_end_where_those_of_the_images_do(dist: Path, tmp_path: Path) -> None:
    job, extractor = job_of(dist, tmp_path)
    written = job.make(extractor)
    ranges = shard_rows(job.config.manifest, "train")
    assert [shard.rows for shard in written.manifest.splits["train"].shards] == list(map(len, ranges))
    assert job.make(extractor).reused and job.exists()


def test_float16_is_rounded_from_float32(dist: Path, tmp_path: Path) -> None:
    job, extractor = job_of(dist, tmp_path / "a")
    job.make(extractor)
    half, _ = job_of(dist, tmp_path / "b", dtype="float16")
    half.make(extractor)
    names = {"model": job.recipe.model, "data": dist / "bloodmnist"}
    exact = medmnist_hf.load_features("bloodmnist", root=tmp_path / "a", **names)  # type: ignore[arg-type]
    rounded = medmnist_hf.load_features("bloodmnist", root=tmp_path / "b", **names)  # type: ignore[arg-type]
    assert np.array_equal(exact.features.astype(np.float16), rounded.features)
    compared, difference = verify_store(half, extractor)
    assert compared == half.find()[1].rows and 0 < difference < 1e-3


def test_a_sample_is_whole_batches(dist: Path, tmp_path: Path) -> None:
    job, extractor = job_of(dist, tmp_path)
    job.make(extractor)
    progress: list[int] = []
    compared, _ = verify_store(job, extractor, rows=1, on_progress=progress.append)
    rows = job.config.manifest.splits
    assert compared == sum(progress) == sum(min(16, rows[split].rows) for split in SPLITS)


def test_a_wrong_feature_is_found(dist: Path, tmp_path: Path) -> None:
    job, extractor = job_of(dist, tmp_path)
    written = job.make(extractor)
    shard = written.manifest.splits["test"].shards[-1]
    path = written.folder / shard.name
    table = pq.read_table(path)
    swapped = table.take([1, 0, *range(2, table.num_rows)])
    with pq.ParquetWriter(path, table.schema, compression="none", use_dictionary=False) as writer:
        writer.write_table(swapped.set_column(1, "label", table["label"]))
    with pytest.raises(BuildError, match="is not the shard of the manifest"):
        verify_store(job, extractor)
    manifest = replace(
        written.manifest,
        splits={
            name: replace(
                record,
                shards=tuple(
                    replace(each, bytes=path.stat().st_size, sha256=sha256_of(path)) if each == shard else each
                    for each in record.shards
                ),
            )
            for name, record in written.manifest.splits.items()
        },
    )
    (written.folder / MANIFEST_NAME).write_text(manifest.to_json())
    with pytest.raises(VerificationError, match=r"row \d+ of test differs from its image"):
        verify_store(job, extractor)


def test_a_missing_store_is_named(dist: Path, tmp_path: Path) -> None:
    job, extractor = job_of(dist, tmp_path)
    with pytest.raises(SourceError, match="run medmnist-hf embed bloodmnist"):
        verify_store(job, extractor)


def test_the_maximum_over_slices_is_another_store(phantoms: Phantoms, tmp_path: Path) -> None:
    build(phantoms, tmp_path / "dist", "adrenalmnist3d", 28, rows=8, rows_per_shard=100)

    def job(pooling: str) -> tuple[FeatureJob, Extractor]:
        options = {"model": "timm/test_resnet", "volumetric": "2.5d", "slice_pooling": pooling}
        return job_of(tmp_path / "dist", tmp_path / "features", "adrenalmnist3d", **options)

    mean, extractor = job("mean")
    assert mean.make(extractor).manifest.input.slice_pooling == "mean"
    most, extractor = job("max")
    with pytest.raises(BuildError, match=r"holds other features \(slice_pooling mean, not max\): pass --force"):
        most.make(extractor)
    with pytest.raises(BuildError, match=r"another model or input \(slice_pooling mean, not max\)"):
        most.find()
    averages = medmnist_hf.load_features("adrenalmnist3d", 28, root=mean.root, model=mean.recipe.model).features
    assert most.make(extractor, force=True).manifest.input.slice_pooling == "max"
    maxima = medmnist_hf.load_features("adrenalmnist3d", 28, root=mean.root, model=mean.recipe.model).features
    assert (maxima >= averages - 1e-5).all() and (maxima > averages).any()


TOWER: dict[str, Any] = {
    **{"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"image_size": 28, "patch_size": 7},
}


def dinov2() -> Any:
    return Dinov2Model(Dinov2Config(**TOWER))


def clip() -> Any:
    text = {name: value for name, value in TOWER.items() if name not in {"image_size", "patch_size"}}
    return CLIPModel(CLIPConfig(text_config=text | {"vocab_size": 9}, vision_config=TOWER, projection_dim=8))


def siglip() -> Any:
    text = {name: value for name, value in TOWER.items() if name not in {"image_size", "patch_size"}}
    return SiglipModel(SiglipConfig(text_config=text | {"vocab_size": 9}, vision_config=TOWER))


def seen_by_clip(folder: Path, images: torch.Tensor) -> Any:
    return CLIPVisionModel.from_pretrained(folder)(images).last_hidden_state[:, 1:].mean(1)


def seen_by_siglip(folder: Path, images: torch.Tensor) -> Any:
    return SiglipVisionModel.from_pretrained(folder)(images).last_hidden_state.mean(1)


def seen_by_dinov2(folder: Path, images: torch.Tensor) -> Any:
    hidden = Dinov2Model.from_pretrained(folder)(images).last_hidden_state
    return torch.cat([hidden[:, 0], hidden[:, 1:].mean(1)], 1)


TOWERS: dict[str, tuple[Callable[[], Any], Callable[[Path, torch.Tensor], Any]]] = {
    "clip": (clip, seen_by_clip),
    "siglip": (siglip, seen_by_siglip),
    "dinov2": (dinov2, seen_by_dinov2),
}
"""Models without a classifier -> how to make one, and what the classifier of its family in transformers reads."""

READ: dict[str, Any] = {"pretrained": True, "normalize": "half"}


@pytest.mark.parametrize("kind", TOWERS)
def test_image_towers_give_what_the_classifier_of_transformers_reads(kind: str, dist: Path, tmp_path: Path) -> None:
    make, seen = TOWERS[kind]
    torch.manual_seed(1)
    folder = tmp_path / kind
    make().eval().save_pretrained(folder)
    job, extractor = job_of(dist, tmp_path / "features", model=str(folder), **READ)
    written = job.make(extractor)
    assert written.manifest.model.origin == f"weights of {kind}" and written.manifest.width == (
        32 if kind == "dinov2" else 16
    )
    data = dist / "bloodmnist"
    features, _ = medmnist_hf.load_features("bloodmnist", 28, "test", job.root, model=str(folder), data=data)
    images = torch.from_numpy(medmnist_hf.load_arrays("bloodmnist", 28, "test", root=dist).images).movedim(3, 1)
    with torch.inference_mode():
        expected = seen(folder, (images / 255 - 0.5) / 0.5)
    assert written.manifest.width == features.shape[1] == expected.shape[1]
    np.testing.assert_allclose(features, expected, atol=1e-5)
    assert verify_store(job, extractor)[1] == 0


@pytest.mark.slow
def test_real_weights_give_the_features_of_timm_for_real_images(real_data: Path, tmp_path: Path) -> None:
    """EfficientNet-Lite0, pretrained on ImageNet, on the official BreastMNIST."""
    folder = Folder(real_data)
    build_config(subset("breastmnist"), 28, folder.fetch(subset("breastmnist"), 28), tmp_path / "dist")
    weights = tmp_path / "lite0.safetensors"
    subprocess.run([sys.executable, ROOT / "scripts/imagenet_weights.py", "--out", weights], check=True)
    job, extractor = job_of(
        tmp_path / "dist",
        tmp_path / "features",
        "breastmnist",
        model="timm/tf_efficientnet_lite0",
        checkpoint=str(weights),
        batch_size=32,
    )
    written = job.make(extractor)
    assert written.manifest.provenance.comparable and written.manifest.rows == 780
    assert written.manifest.model.origin == "weights of lite0.safetensors"
    network: Any = timm.create_model("tf_efficientnet_lite0", checkpoint_path=str(weights)).eval()
    test = medmnist_hf.load_arrays("breastmnist", 28, "test", root=tmp_path / "dist")
    images = (torch.from_numpy(test.images).unsqueeze(1).expand(-1, 3, -1, -1) / 255 - 0.5) / 0.5
    with torch.inference_mode():
        expected = network.forward_head(network.forward_features(images), pre_logits=True)
    features, labels = medmnist_hf.load_features(
        "breastmnist", 28, "test", job.root, model=job.recipe.model, data=tmp_path / "dist/breastmnist"
    )
    np.testing.assert_allclose(features, expected, atol=1e-4)
    assert np.array_equal(labels, test.labels)
