"""Zero-shot classification by a model with a text tower, with prompts made from the label names."""

import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

from medmnist_hf.catalog import Subset, Task
from medmnist_hf.errors import TrainingError, first_line
from medmnist_hf.training.data.recipe_transforms import input_transform
from medmnist_hf.training.methods.base import Fitted, Run
from medmnist_hf.training.models.from_transformers import check_config, limit_model_size

_TOWERS = ("get_image_features", "get_text_features", "logit_scale")


def fit(run: Run, seed: int, folder: Path) -> Fitted:
    """Score images by their similarity to prompts of the labels, without training."""
    recipe = run.recipe
    model = ZeroShot(recipe.model, recipe.subset, recipe.prompt, run.device)
    run.claim()
    transform = input_transform(recipe, model.mean, model.std, model.image_size)
    scores = {split: model.scores(run.batches(split, transform)) for split in run.scored}
    return Fitted(scores, {"origin": f"weights of {recipe.model}", "trained_parameters": 0, "prompt": recipe.prompt})


class ZeroShot:
    """A CLIP-like model with the prompts of a subset.

    Models of the SigLIP family, which have a ``logit_bias``, are trained to judge each text independently; models of
    the CLIP family are trained to choose among texts. Only weights in safetensors files are read.

    Args:
        name: A `transformers` id or folder of a CLIP-like model.
        entry: The subset whose labels make the prompts.
        prompt: A prompt with ``{}`` for the label and, optionally, ``{modality}`` for the subset's modality.
        device: Device to compute on.

    Attributes:
        mean: Mean per channel that the model expects, in units of 0..1.
        std: Standard deviation, as `mean`.
        image_size: Edge length of the input that the model expects, rounded down to whole patches.

    Raises:
        TrainingError: The model cannot be loaded or has no text tower, or the prompt has no ``{}``.
    """

    def __init__(self, name: str, entry: Subset, prompt: str, device: torch.device) -> None:
        self._name, self._entry, self._device = name, entry, device
        check_text_tower(name)
        model: Any
        with limit_model_size():
            model, loaded = _load(AutoModel, name, use_safetensors=True, output_loading_info=True)
        vision = getattr(model.config, "vision_config", None)
        size, patch = (getattr(vision, part, None) for part in ("image_size", "patch_size"))
        if not all(hasattr(model, part) for part in _TOWERS) or not isinstance(size, int):
            raise _without_tower(name)
        if loaded["missing_keys"]:
            raise TrainingError(f"{name} lacks weights such as {min(loaded['missing_keys'])}: name a complete model")
        # Pixels after the last whole patch are not seen: 384 pixels are 27 patches of 14 and 6 pixels (SigLIP).
        self.image_size = size - size % patch if isinstance(patch, int) else size
        self._model = model.to(device).eval()
        self._is_siglip = hasattr(model, "logit_bias")
        processor = _load(AutoImageProcessor, name)
        self.mean, self.std = tuple(processor.image_mean), tuple(processor.image_std)
        texts = make_prompts(entry, prompt, absence=not self._is_siglip)
        with torch.inference_mode():
            self._texts = _unit(model.get_text_features(**self._tokens(texts).to(device)))

    def _tokens(self, texts: list[str]) -> Any:
        """Tokenize as in the model's training: SigLIP pads texts to the maximum length and uses no mask."""
        tokenizer = _load(AutoTokenizer, self._name)
        tokens = tokenizer(
            texts,
            padding="max_length" if self._is_siglip else True,
            max_length=self._model.config.text_config.max_position_embeddings,
            truncation=True,
            return_token_type_ids=False,
            return_attention_mask=not self._is_siglip,
            return_tensors="pt",
        )
        if len(tokens["input_ids"].unique(dim=0)) < len(texts):
            raise TrainingError(
                f"{self._name} reads the prompts of two labels as the same: shorten the prompt, or fix the tokenizer"
            )
        return tokens

    @torch.inference_mode()
    def scores(self, batches: Iterable[Mapping[str, Tensor]]) -> npt.NDArray[np.float64]:
        """Score all batches in order.

        Args:
            batches: ``pixel_values`` of shape (B, C, `image_size`, `image_size`), normalized by `mean` and `std`.

        Returns:
            float64 of shape (N, K): a softmax over the prompts of all labels. For the multi-label task, a softmax over
            each finding and its absence or, for SigLIP models, a sigmoid per finding.

        Raises:
            TrainingError: The model reads another number of channels.
        """
        model, multi = self._model, self._entry.task is Task.MULTI_LABEL
        channels = model.config.vision_config.num_channels
        batch_scores = []
        for batch in batches:
            pixels = batch["pixel_values"].to(self._device)
            if pixels.shape[1] != channels:
                raise TrainingError(f"{self._name} reads {channels} channels: give --channels {channels}")
            images = _unit(model.get_image_features(pixel_values=pixels))
            logits = model.logit_scale.exp() * images @ self._texts.T + (model.logit_bias if self._is_siglip else 0)
            if not multi:
                scores = logits.softmax(1)
            elif self._is_siglip:
                scores = logits.sigmoid()
            else:
                present, absent = logits.chunk(2, 1)
                scores = torch.sigmoid(present - absent)
            batch_scores.append(scores.double().cpu())
        return torch.cat(batch_scores).numpy()


def check_text_tower(name: str) -> None:
    """Check that a model has a text tower by its configuration, before its weights are downloaded.

    Args:
        name: A `transformers` id or folder.

    Raises:
        TrainingError: As for `ZeroShot`.
    """
    config = _load(AutoConfig, name)
    if not all(hasattr(config, part) for part in ("vision_config", "text_config")):
        raise _without_tower(name)


def _without_tower(name: str) -> TrainingError:
    return TrainingError(f"{name} has no text tower: name a model of the CLIP or SigLIP family")


def make_prompts(entry: Subset, prompt: str, *, absence: bool) -> list[str]:
    """Make the prompt of each label; for the multi-label task optionally followed by prompts of absence.

    Args:
        entry: The subset.
        prompt: As in `ZeroShot`.
        absence: Whether to append, for the multi-label task, a prompt for the absence of each finding.

    Raises:
        TrainingError: The prompt has no ``{}``.
    """
    if "{}" not in prompt:
        raise TrainingError(f"prompt {prompt!r} has no {{}}: mark the place of the label with {{}}")
    file = resources.files("medmnist_hf.training.methods") / "zero_shot_labels.toml"
    names = tomllib.loads(file.read_text(encoding="utf-8")).get(entry.flag, {})
    phrases = [names.get(label, label) for label in entry.labels]
    if absence and entry.task is Task.MULTI_LABEL:
        phrases += [f"no {phrase}" for phrase in phrases]
    return [prompt.replace("{modality}", entry.modality).replace("{}", phrase) for phrase in phrases]


def _load(kind: Any, name: str, **options: Any) -> Any:
    try:
        check_config(name)
        return kind.from_pretrained(name, trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, TypeError, AttributeError) as error:
        raise TrainingError(
            f"cannot load {name} ({first_line(error)}): name a CLIP-like model of transformers"
        ) from None


def _unit(output: Any) -> Tensor:
    return normalize(getattr(output, "pooler_output", output).float(), dim=-1)
