"""Choose frozen features and a kernel classifier by cross-validation on train and validation; then score test once.

Candidates are the features of one network at one input size, or of several together, from the last layer alone or from
several, and a linear or Gaussian kernel of any strength. All candidates are printed. The test split is read after the
choice, which never depends on it.

Volumes are shown to the networks as six images, whole and enlarged along each axis, of how thick a shape is and how
far its surface lies from both ends: this suits masks, such as AdrenalMNIST3D.

Example:
    python scripts/bench/bench_probes.py breastmnist --root dist --weights weights/tf_efficientnet_lite0.safetensors
"""

import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import timm
import torch
import typer
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from sklearn.cluster import AgglomerativeClustering
from torch import Tensor
from torch.nn.functional import interpolate

from medmnist_hf import catalog, console, load_arrays
from medmnist_hf.array_types import FloatArray, IntArray
from medmnist_hf.catalog import Task
from medmnist_hf.console.program import Program
from medmnist_hf.errors import TrainingError
from medmnist_hf.files import write_atomically
from medmnist_hf.sampling.folds import fold_of_rows
from medmnist_hf.scoring.intervals import intervals
from medmnist_hf.scoring.official import score
from medmnist_hf.scoring.predictions import Predictions, check
from medmnist_hf.training.models.checkpoints import load_weights, read_tensors

app = Program(add_completion=False)

FOLDS: Final = 5
EXAMPLE: Final = "python scripts/bench/bench_probes.py breastmnist --weights weights/tf_efficientnet_lite0.safetensors"
STRENGTHS: Final = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Ridge penalties to try, relative to a kernel with a mean of 1 on its diagonal."""

LAYERS: Final = {"last": (7,), "strides 8 and 16": (2, 4), "all": (1, 2, 3, 4, 5, 6, 7)}
"""Name -> after which of the seven stages of EfficientNet, counted from 0, features are taken; 7 is the last layer."""

POOLS: Final = {"mean": (0,), "mean, deviation, maximum": (0, 1, 2)}
"""Name -> how maps are pooled over positions: by mean (0), standard deviation (1) and maximum (2)."""

VIEWS: Final = ((0, 16), (4, 12))
"""Voxels to cut off at each side of a volume, and the thickness that is shown as 1; from all three axes each."""

KERNELS: Final = ("linear", "Gaussian")

Block = NDArray[np.float32]
Source = tuple[str, int]
"""Name of a network and size of its input."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """How similarity of rows is computed: from which sources, layers and poolings, which count alike, and how."""

    sources: tuple[Source, ...]
    layers: str
    pools: str
    kind: str


def to_inputs(images: NDArray[np.uint8]) -> list[Tensor]:
    """The images of each row that the networks see, one per view: float32 (N, 3, S, S) in 0..1."""
    values = torch.from_numpy(np.array(images))
    if _is_volume(images):
        masks = (values > 127).float()
        return [surfaces(_center(masks, cut).movedim(axis, 1), white) for cut, white in VIEWS for axis in (1, 2, 3)]
    values = values[..., None].expand(*values.shape, 3) if values.ndim == 3 else values
    return [values.permute(0, 3, 1, 2).float() / 255]


def surfaces(masks: Tensor, white: int) -> Tensor:
    """How a shape looks along the first axis of masks (N, D, H, W), as images (N, 3, H, W) in 0..1.

    The channels are its thickness, of which `white` voxels or more are 1, and how near it comes to both ends.
    """
    depth = masks.shape[1]
    ramp = torch.arange(depth, 0, -1).view(1, depth, 1, 1) / depth
    thickness = (masks.sum(1) / white).clamp(max=1)
    return torch.stack([thickness, (masks * ramp).amax(1), (masks * ramp.flip(1)).amax(1)], 1)


def _center(masks: Tensor, cut: int) -> Tensor:
    inner = slice(cut, masks.shape[1] - cut)
    return masks[:, inner, inner, inner]


@torch.inference_mode()
def layer_features(network: Any, inputs: Tensor, size: int, *, mirror: bool) -> list[Block]:
    """Mean, standard deviation and maximum of each stage's maps over positions.

    Args:
        network: An EfficientNet of timm.
        inputs: Shape (N, 3, S, S), in 0..1.
        size: Input size of the network, to which images are resized by cubic interpolation.
        mirror: Average the features of each image and its mirror image.

    Returns:
        One array per stage, shape (N, 3 * C).
    """
    mean, std = (torch.tensor(network.pretrained_cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    rows: list[list[Tensor]] = []
    for batch in torch.split(inputs, 16):
        resized = interpolate(batch, (size, size), mode="bicubic", align_corners=False).clamp(0, 1)
        views = [resized, resized.flip(3)] if mirror else [resized]
        pooled = [
            _pooled(network, ((view - mean) / std).contiguous(memory_format=torch.channels_last)) for view in views
        ]
        rows.append([torch.stack(stage).mean(0) for stage in zip(*pooled, strict=True)])
    return [torch.cat(stage).numpy() for stage in zip(*rows, strict=True)]


def _pooled(network: Any, inputs: Tensor) -> list[Tensor]:
    maps, values = [], network.bn1(network.conv_stem(inputs))
    for stage in network.blocks:
        values = stage(values)
        maps.append(values)
    maps = [*maps, network.bn2(network.conv_head(values))]
    return [torch.cat([stage.mean((2, 3)), stage.std((2, 3), correction=0), stage.amax((2, 3))], 1) for stage in maps]


def read_features(images: NDArray[np.uint8], weights: Path, size: int, cache: Path | None) -> list[Block]:
    """Features of each stage, computed or read from a file of the cache.

    Args:
        images: Images or volumes as stored.
        weights: Weights file, named after its network in timm.
        size: Input size of the network.
        cache: Folder of features that were computed before, named after digests of the images and the weights.

    Returns:
        One array per stage, shape (N, V, 3 * C) for V views of a row.
    """
    pixels = np.ascontiguousarray(images)
    key = hashlib.sha256(repr(VIEWS).encode() + weights.read_bytes() + pixels.tobytes()).hexdigest()[:16]
    path = None if cache is None else cache / f"{weights.stem}-{size}-{key}.npz"
    if path is not None and path.exists():
        with np.load(path) as stored:
            return [stored[name] for name in stored.files]
    network: Any = timm.create_model(weights.stem)
    load_weights(network, read_tensors(weights), str(weights))
    network.eval().to(memory_format=torch.channels_last)
    views = [layer_features(network, view, size, mirror=not _is_volume(pixels)) for view in to_inputs(pixels)]
    stages = [np.stack(stage, 1) for stage in zip(*views, strict=True)]
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        np.savez(file, *stages)
        write_atomically(path, file.getvalue())
    return stages


@dataclass(frozen=True, slots=True, eq=False)
class Products:
    """Inner products of rows with the rows to fit on, by which kernels are made.

    Attributes:
        products: float32 of shape (N, n), 1 on average for a row with itself.
        norms: Inner product of each row with itself, shape (N,).
    """

    products: Block
    norms: Block

    @classmethod
    def of(cls, stages: Sequence[Block], fitted: NDArray[np.bool_], layers: str, pools: str) -> "Products":
        """Products of features of one source, standardized on the rows to fit on; layers and poolings count alike."""
        parts = list(product(LAYERS[layers], POOLS[pools]))
        products, norms = np.zeros((len(fitted), int(fitted.sum())), np.float32), np.zeros(len(fitted), np.float32)
        for layer, pool in parts:
            values = np.split(stages[layer], 3, axis=2)[pool].reshape(len(fitted), -1)
            mean, spread = values[fitted].mean(0), values[fitted].std(0)
            spread[spread <= 1e-6 * np.abs(mean)] = np.inf
            values = (values - mean) / (spread * np.float32(math.sqrt(values.shape[1] * len(parts))))
            products += values @ values[fitted].T
            norms += np.einsum("nf,nf->n", values, values)
        return cls(products, norms)

    @classmethod
    def mean(cls, several: Sequence["Products"]) -> "Products":
        """Products of the features of several sources together."""
        return cls(np.mean([one.products for one in several], axis=0), np.mean([one.norms for one in several], axis=0))

    def kernel(self, fitted: NDArray[np.bool_], kind: str) -> FloatArray:
        """Similarities, shape (N, n); the width of a Gaussian kernel is the median distance."""
        if kind == "linear":
            return self.products.astype(np.float64)
        distances = self.norms[:, None] + self.norms[fitted] - 2 * self.products
        return np.asarray(np.exp(-distances / np.median(distances[fitted])), np.float64)


def ridge_scores(similar: FloatArray, fitted: NDArray[np.bool_], targets: FloatArray, strength: float) -> FloatArray:
    """Scores of the rows that are not fitted, shape (M, K), by kernel ridge regression of one-hot targets (n, K)."""
    matrix = similar[fitted]
    matrix[np.diag_indices_from(matrix)] += strength
    mean = targets.mean(0)
    weights = cho_solve(cho_factor(matrix, overwrite_a=True, check_finite=False), targets - mean)
    return np.asarray(similar[~fitted] @ weights + mean)


def similar_groups(images: NDArray[np.uint8], count: int) -> IntArray:
    """Group images by their colors, which images of one patient and camera share: the group of each row, (N,)."""
    pixels = images.reshape(len(images), -1, images.shape[-1] if images.ndim == 4 else 1)
    deciles = np.percentile(pixels, np.arange(20, 100, 10), axis=1).transpose(1, 0, 2).reshape(len(images), -1)
    deciles = (deciles - deciles.mean(0)) / np.maximum(deciles.std(0), 1e-6)
    return np.asarray(AgglomerativeClustering(count).fit_predict(deciles))


def source_sets(sources: Sequence[Source]) -> list[tuple[Source, ...]]:
    """The sources whose features are used together: each alone, all networks at each size, and all."""
    sizes = sorted({size for _, size in sources})
    together = [tuple(source for source in sources if source[1] == size) for size in sizes]
    return [*dict.fromkeys([*((source,) for source in sources), *together, tuple(sources)])]


def cross_validate(
    stages: Mapping[Source, Sequence[Block]], labels: IntArray, task: Task, repeats: int, groups: IntArray | None
) -> dict[tuple[Kernel, float], float]:
    """AUC of each kernel and strength on held-out rows, averaged over repeated divisions into folds.

    Args:
        stages: Source -> features of train and validation.
        labels: Class ids of train and validation, shape (N,).
        task: The task.
        repeats: Number of divisions.
        groups: Group of each row, not to be divided among folds.
    """
    targets = np.eye(int(labels.max()) + 1)[labels]
    held_out: dict[tuple[Kernel, float], FloatArray] = {}
    for repeat in range(repeats):
        folds = fold_of_rows(labels, FOLDS, seed=repeat, groups=groups)
        for fold, layers, pools in product(range(FOLDS), LAYERS, POOLS):
            fitted = folds != fold
            made = {source: Products.of(blocks, fitted, layers, pools) for source, blocks in stages.items()}
            for sources in source_sets(list(stages)):
                products = Products.mean([made[source] for source in sources])
                for kind in KERNELS:
                    similar = products.kernel(fitted, kind)
                    for strength in STRENGTHS:
                        candidate = Kernel(sources, layers, pools, kind), strength
                        scores = held_out.setdefault(candidate, np.zeros((repeats, *targets.shape)))
                        scores[repeat, ~fitted] = ridge_scores(similar, fitted, targets[fitted], strength)
    return {
        candidate: float(np.mean([score(check(labels, part, task, from_logits=False)).auc for part in scores]))
        for candidate, scores in held_out.items()
    }


def _is_volume(images: NDArray[np.uint8]) -> bool:
    return images.ndim == 4 and images.shape[-1] != 3


def _named(sources: Sequence[Source]) -> str:
    return ", ".join(f"{network.removeprefix('tf_efficientnet_')} {size}" for network, size in sources)


@app.command(epilog=f"Example: {EXAMPLE}")
def main(
    flag: Annotated[str, typer.Argument(metavar="SUBSET", help="A subset with one label per image.")],
    weights: Annotated[list[Path], typer.Option(help="Weights of an EfficientNet, named after it; repeatable.")],
    root: Annotated[Path | None, typer.Option(help="Folder of builds or NPZ files.")] = None,
    image_size: Annotated[list[int], typer.Option(help="Input size of the networks; repeatable.")] = [112],  # noqa: B006
    repeats: Annotated[int, typer.Option(help="Divisions into five folds.", min=1)] = 3,
    groups: Annotated[int, typer.Option(help="Keep images of similar color together, in this many groups.")] = 0,
    cache: Annotated[Path | None, typer.Option(help="Folder to keep features in.")] = None,
    test: Annotated[bool, typer.Option(help="Score the chosen candidate on test.")] = True,
) -> None:
    """Print the AUC of all candidates in cross-validation, and the test scores of the best one."""
    entry = catalog.subset(flag)
    if entry.task is Task.MULTI_LABEL:
        raise TrainingError(f"{flag} has several labels per image: name another subset")
    for path in weights:
        if not path.is_file() or "efficientnet" not in path.stem or not timm.is_model(path.stem):
            raise TrainingError(f"{path} is not weights of an EfficientNet of timm: see scripts/imagenet_weights.py")
    parts = [load_arrays(flag, 28, split, root) for split in ("train", "validation")]
    images, labels = (np.concatenate([part[at] for part in parts]) for at in (0, 1))
    sources = {(path.stem, size): (path, size) for size in image_size for path in weights}
    stages = {name: read_features(images, *source, cache) for name, source in sources.items()}
    aucs = cross_validate(stages, labels, entry.task, repeats, similar_groups(images, groups) if groups else None)
    text = ("features", "layers", "pooling", "kernel")
    table = console.table(*text, *map("{:g}".format, STRENGTHS), text=text, wrap="features")
    for kernel in dict.fromkeys(kernel for kernel, _ in aucs):
        values = [f"{aucs[kernel, strength]:.4f}" for strength in STRENGTHS]
        table.add_row(_named(kernel.sources), kernel.layers, kernel.pools, kernel.kind, *values)
    terminal = console.terminal()
    terminal.print(f"AUC on held-out rows of train and validation, by strength: {len(aucs)} candidates")
    terminal.print(table)
    chosen, strength = max(aucs, key=lambda candidate: aucs[candidate])
    terminal.print(
        f"chosen: {_named(chosen.sources)}; layers {chosen.layers}; {chosen.pools}; {chosen.kind} kernel, strength "
        f"{strength:g}: AUC {aucs[chosen, strength]:.4f} in cross-validation"
    )
    if not test:
        return
    unseen = load_arrays(flag, 28, "test", root)
    both = {
        name: [
            *map(np.concatenate, zip(stages[name], read_features(unseen.images, *sources[name], cache), strict=True))
        ]
        for name in chosen.sources
    }
    fitted = np.arange(len(labels) + len(unseen.labels)) < len(labels)
    targets = np.eye(len(entry.labels))[labels]
    products = Products.mean([Products.of(both[name], fitted, chosen.layers, chosen.pools) for name in chosen.sources])
    scores = ridge_scores(products.kernel(fitted, chosen.kind), fitted, targets, strength)
    predictions: Predictions = check(unseen.labels, scores, entry.task, from_logits=False)
    for name, interval in intervals(predictions).items():
        terminal.print(f"test {name}: {interval.estimate:.3f} ({interval.low:.3f} to {interval.high:.3f})")


if __name__ == "__main__":
    console.run(app)
