"""Score images with the saved models of a run, as the run scored its own splits.

Example:
    >>> from medmnist_hf.training.prediction.predict import RunModels
    >>> models = RunModels.of("runs/mine")  # doctest: +SKIP
    >>> scores = models.scores(models.inputs("scans.npz"), torch.device("cpu"))  # doctest: +SKIP
"""

# Methods of transformers' classes are untyped.
# mypy: allow-untyped-calls

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import CONFIG_NAME, AutoImageProcessor, TimmWrapperConfig

from medmnist_hf.array_types import Array, FloatArray, UInt8Array
from medmnist_hf.catalog import Task
from medmnist_hf.errors import TrainingError, first_line
from medmnist_hf.own_code.names import MODEL_FILE, is_code, pin_code, public_code, same_code
from medmnist_hf.training.data.recipe_transforms import input_transform, memory_format
from medmnist_hf.training.data.transforms import BatchTransform
from medmnist_hf.training.losses import to_scores
from medmnist_hf.training.models.from_transformers import check_config, limit_model_size
from medmnist_hf.training.models.saving import load_model
from medmnist_hf.training.models.wrappers import NetworkConfig
from medmnist_hf.training.prediction.inputs import Inputs, open_inputs
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.report.publishable import best_seed
from medmnist_hf.training.results import RESULTS_NAME, RunResult, check_complete, read_results
from medmnist_hf.training.run_folder import BEST, seed_folder


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model on its device, with the preprocessing of its training.

    Attributes:
        recipe: The recipe of its run.
        model: The model, in evaluation mode.
        transform: From stored images to its input.
        device: Its device.
    """

    recipe: Recipe
    model: Any
    transform: BatchTransform
    device: torch.device

    @classmethod
    def of(
        cls, folder: Path, recipe: Recipe, device: torch.device, *, size: int | None = None, code: str | None = None
    ) -> "LoadedModel":
        """Load a saved model.

        Args:
            folder: Its folder.
            recipe: The recipe of its run.
            device: Device to compute on.
            size: Edge length of its input; None for that of the recipe.
            code: The function in a Python file that makes the network, if the run used one.

        Raises:
            TrainingError: It cannot be loaded.
        """
        model: Any = _load(folder, code)
        transform = _saved_transform(recipe, model, folder, size or recipe.input_size)
        model.to(device, memory_format=memory_format(recipe))
        return cls(recipe, model, transform, device)

    def logits(self, images: UInt8Array) -> Array:
        """The outputs for a batch of stored images, float32 of shape (n, outputs)."""
        spread = isinstance(self.model.config, TimmWrapperConfig) and self.recipe.input_channels == 1
        half = torch.float16 if self.recipe.precision == "fp16" else torch.bfloat16
        batch = {"images": torch.from_numpy(np.ascontiguousarray(images)), "labels": torch.zeros(len(images))}
        pixels = self.transform(batch)["pixel_values"].to(self.device)
        pixels = pixels.expand(-1, 3, -1, -1) if spread else pixels
        with torch.inference_mode(), torch.autocast(self.device.type, half, enabled=self.recipe.precision != "fp32"):
            logits: Array = self.model(pixel_values=pixels).logits.float().cpu().numpy()
        return logits

    def scores(self, logits: Array) -> FloatArray:
        """The scores that outputs stand for, float64 of shape (n, K)."""
        return to_scores(logits, self.recipe.resolved_loss)


@dataclass(frozen=True, slots=True)
class RunModels:
    """The models of a finished run that predict together.

    Attributes:
        folder: The folder of the run.
        result: Its results.
        seeds: Seeds of the models; the scores of several are averaged.
        code: The function in a Python file that makes the network, if the run used one.
    """

    folder: Path
    result: RunResult
    seeds: tuple[int, ...]
    code: str | None = None

    @classmethod
    def of(
        cls, folder: str | Path, *, seed: int | None = None, ensemble: bool = False, model_file: str | None = None
    ) -> "RunModels":
        """Choose models of a run.

        Args:
            folder: The folder of the run.
            seed: Seed of the model; None for the best on validation.
            ensemble: Choose the models of all seeds.
            model_file: If the network of the run is from a Python file, that file with its function, as
                ``my.py:build``. The file is run; it must have the digest that the run recorded.

        Raises:
            TrainingError: The folder holds no finished run, its method leaves no model, it has no such seed, or the
                file is missing, is another one or is not needed.
        """
        folder = Path(folder)
        if not (folder / RESULTS_NAME).is_file():
            raise TrainingError(f"{folder} holds no finished run: give the folder that medmnist-hf finetune printed")
        result = read_results(folder / RESULTS_NAME)
        check_complete(result)
        seeds = tuple(each.seed for each in result.seeds)
        if seed is not None and seed not in seeds:
            raise TrainingError(f"{folder} has no seed {seed}: choose from {', '.join(map(str, seeds))}")
        chosen = seeds if ensemble else (best_seed(result).seed if seed is None else seed,)
        for each in chosen:
            if not (seed_folder(folder, each) / BEST / CONFIG_NAME).is_file():
                method = result.recipe.method
                raise TrainingError(f"{folder} has no model to predict with: {method} leaves none, or it was removed")
        return cls(folder, result, chosen, _code_of(folder, result.recipe.model, model_file))

    @property
    def recipe(self) -> Recipe:
        """The recipe of the run."""
        return self.result.recipe

    def inputs(self, images: str, *, split: str | None = None, root: Path | None = None) -> Inputs:
        """Find images to predict; arguments and errors as for `open_inputs`."""
        return open_inputs(images, self.recipe.subset, self.recipe.size, split=split, root=root)

    def scores(
        self,
        inputs: Inputs,
        device: torch.device,
        *,
        batch_size: int | None = None,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> FloatArray:
        """Score images.

        The scores of a run that trained the network are bitwise those in its prediction files, on the same device and
        releases, in batches of the same size. There is one exception: networks of timm for gray images were saved for
        RGB, which rounds differently.

        Args:
            inputs: The images.
            device: Device to compute on.
            batch_size: Images per batch; None for that of the run's evaluation.
            on_progress: Called with the number of images of each batch and model.

        Returns:
            float64 of shape (N, K).

        Raises:
            TrainingError: A model cannot be loaded, or its scores are not finite.
            MedMNISTError: An image cannot be read.
        """
        rows = batch_size or 2 * self.recipe.batch_size
        scores = [self._scores(seed, inputs, device, rows, on_progress) for seed in self.seeds]
        mean: FloatArray = scores[0] if len(scores) == 1 else np.mean(scores, axis=0)
        not_finite = int((~np.isfinite(mean).all(1)).sum())
        if not_finite:
            raise TrainingError(
                f"{self.folder} gave scores that are not finite for {not_finite} images: train it again"
            )
        return mean

    def load(self, seed: int, device: torch.device) -> "LoadedModel":
        """Load the model of a seed. Raises a `TrainingError` if it cannot be loaded."""
        size = next(each.facts.image_size for each in self.result.seeds if each.seed == seed)
        return LoadedModel.of(seed_folder(self.folder, seed) / BEST, self.recipe, device, size=size, code=self.code)

    def _scores(
        self, seed: int, inputs: Inputs, device: torch.device, rows: int, on_progress: Callable[[int], None]
    ) -> FloatArray:
        model, logits = self.load(seed, device), []
        for block in inputs.blocks(rows):
            logits.append(model.logits(block))
            on_progress(len(block))
        return model.scores(np.concatenate(logits))

    def table(self, inputs: Inputs, scores: FloatArray) -> str:
        """Scores as CSV for readers: a header, then the image, the predicted label and the score of each class.

        An image is named by its file name or row. For the multi-label task, the label is the list of the findings with
        a score above 0.5, separated by semicolons.
        """
        labels, multi = self.recipe.subset.labels, self.recipe.subset.task is Task.MULTI_LABEL
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["image", "label", *labels])
        for at, row in enumerate(scores.tolist()):
            found = [label for label, score in zip(labels, row, strict=True) if score > 0.5]
            label = "; ".join(found) if multi else labels[int(np.argmax(row))]
            writer.writerow([inputs.names[at] if inputs.names else at, label, *row])
        return text.getvalue()


def _code_of(folder: Path, model: str, given: str | None) -> str | None:
    """The user's file for a model, after checking that it is the one of the run; it is not run yet."""
    if given is None:
        if not is_code(model):
            return None
        name = public_code(model).partition("#")[0]
        raise TrainingError(
            f"the network of {folder} is from {name}, which is not run without being asked: give --model-file {name}"
        )
    if not is_code(model):
        raise TrainingError(f"the network of {folder} is {model}, which is not from a file: leave out --model-file")
    pinned = pin_code(given, MODEL_FILE)
    if not same_code(pinned, model):
        raise TrainingError(f"{folder} was trained with {public_code(model)}, but {pinned} is another: give that one")
    return pinned


def _load(folder: Path, code: str | None = None) -> nn.Module:
    try:
        check_config(str(folder))
        with limit_model_size():
            return load_model(folder, code)
    except TrainingError:
        raise
    except Exception as error:  # networks are built in many ways
        raise TrainingError(f"cannot load the model in {folder} ({first_line(error)}): run it again") from None


def _saved_transform(recipe: Recipe, model: Any, folder: Path, size: int) -> BatchTransform:
    """The transform of the run, with the mean and standard deviation that were saved with the model."""
    if isinstance(model.config, NetworkConfig):
        return replace(BatchTransform(**(model.config.transform or {})), channels_last=True)
    if isinstance(model.config, TimmWrapperConfig):
        settings: Any = model.config.pretrained_cfg
        mean, std = settings["mean"], settings["std"]
    else:
        try:
            processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
        except Exception as error:  # as above
            raise TrainingError(f"cannot read the processor in {folder} ({first_line(error)}): run it again") from None
        mean, std = processor.image_mean, processor.image_std
    channels = recipe.input_channels
    return replace(input_transform(recipe, (), (), size), mean=tuple(mean)[:channels], std=tuple(std)[:channels])
