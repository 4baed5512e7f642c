"""Zero-shot scores of a model with a text tower, from prompts made of the label names."""

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
from medmnist_hf.training.models.from_transformers import bounded, check_config

_TOWERS = ("get_image_features", "get_text_features", "logit_scale")


def fit(run: Run, seed: int, folder: Path) -> Fitted:
    """Compare images with prompts made of the label names; nothing is trained."""
    recipe = run.recipe
    model = ZeroShot(recipe.model, recipe.subset, recipe.prompt, run.device)
    run.claim()
    transform = input_transform(recipe, model.mean, model.std, model.image_size)
    scores = {split: model.scores(run.batches(split, transform)) for split in run.scored}
    return Fitted(scores, {"origin": f"weights of {recipe.model}", "trained_parameters": 0, "prompt": recipe.prompt})


class ZeroShot:
    """A CLIP-like model with the prompts of a subset.

    A model of the SigLIP family, which has a ``logit_bias``, was trained to say of each text alone whether it fits;
    one of the CLIP family to choose among texts. Only weights in safetensors files are read.

    Args:
        name: A `transformers` id or folder of a CLIP-like model.
        entry: The subset; its labels make the prompts.
        prompt: A prompt with ``{}`` where the label goes, and ``{modality}`` where the subset's modality shall go.
        device: Where to compute.

    Attributes:
        mean: Mean of each channel that the model expects, in units of 0..1.
        std: Standard deviation, as `mean`.
        image_size: Edge length of the input that the model expects, in whole patches.

    Raises:
        TrainingError: The model cannot be loaded, has no text tower, or the prompt has no place for the label.
    """

    def __init__(self, name: str, entry: Subset, prompt: str, device: torch.device) -> None:
        self._name, self._entry, self._device = name, entry, device
        check_text_tower(name)
        model: Any
        with bounded():
            model, loaded = _load(AutoModel, name, use_safetensors=True, output_loading_info=True)
        vision = getattr(model.config, "vision_config", None)
        size, patch = (getattr(vision, part, None) for part in ("image_size", "patch_size"))
        if not all(hasattr(model, part) for part in _TOWERS) or not isinstance(size, int):
            raise _without_tower(name)
        if loaded["missing_keys"]:
            raise TrainingError(f"{name} lacks {min(loaded['missing_keys'])} and perhaps more: name a whole model")
        # What lies behind the last whole patch is not seen: 384 pixels are 27 patches of 14, and 6 more (SigLIP).
        self.image_size = size - size % patch if isinstance(patch, int) else size
        self._model = model.to(device).eval()
        self._alone = hasattr(model, "logit_bias")
        images = _load(AutoImageProcessor, name)
        self.mean, self.std = tuple(images.image_mean), tuple(images.image_std)
        texts = texts_of(entry, prompt, absence=not self._alone)
        with torch.inference_mode():
            self._texts = _unit(model.get_text_features(**self._tokens(texts).to(device)))

    def _tokens(self, texts: list[str]) -> Any:
        """Tokens as the model was trained on them: SigLIP had each text padded to the end, and no mask."""
        tokenizer = _load(AutoTokenizer, self._name)
        tokens = tokenizer(
            texts,
            padding="max_length" if self._alone else True,
            max_length=self._model.config.text_config.max_position_embeddings,
            truncation=True,
            return_token_type_ids=False,
            return_attention_mask=not self._alone,
            return_tensors="pt",
        )
        if len(tokens["input_ids"].unique(dim=0)) < len(texts):
            raise TrainingError(
                f"{self._name} reads prompts of two labels as the same: shorten it, or fix the tokenizer"
            )
        return tokens

    @torch.inference_mode()
    def scores(self, batches: Iterable[Mapping[str, Tensor]]) -> npt.NDArray[np.float64]:
        """Scores of all batches in order.

        Args:
            batches: ``pixel_values`` of shape (B, C, `image_size`, `image_size`), normalized by `mean` and `std`.

        Returns:
            float64 of shape (N, K): a softmax over the prompts of all labels. For the multi-label task a softmax over
            a finding and its absence, or of a SigLIP model the sigmoid that it gives for the finding.

        Raises:
            TrainingError: The images have other channels than the model reads.
        """
        model, multi = self._model, self._entry.task is Task.MULTI_LABEL
        channels = model.config.vision_config.num_channels
        scored = []
        for batch in batches:
            pixels = batch["pixel_values"].to(self._device)
            if pixels.shape[1] != channels:
                raise TrainingError(f"{self._name} reads {channels} channels: give --channels {channels}")
            images = _unit(model.get_image_features(pixel_values=pixels))
            logits = model.logit_scale.exp() * images @ self._texts.T + (model.logit_bias if self._alone else 0)
            if not multi:
                scores = logits.softmax(1)
            elif self._alone:
                scores = logits.sigmoid()
            else:
                present, absent = logits.chunk(2, 1)
                scores = torch.sigmoid(present - absent)
            scored.append(scores.double().cpu())
        return torch.cat(scored).numpy()


def check_text_tower(name: str) -> None:
    """Refuse a model whose configuration cannot be read or names no text tower, before its weights are fetched.

    Args:
        name: A `transformers` id or folder.

    Raises:
        TrainingError: As for `ZeroShot`.
    """
    config = _load(AutoConfig, name)
    if not all(hasattr(config, part) for part in ("vision_config", "text_config")):
        raise _without_tower(name)


def _without_tower(name: str) -> TrainingError:
    return TrainingError(f"{name} has no text tower of the CLIP or SigLIP kind: name a model that has one")


def texts_of(entry: Subset, prompt: str, *, absence: bool) -> list[str]:
    """The prompt of each label; of each finding of the multi-label task also that of its absence, behind all others.

    Args:
        entry: The subset.
        prompt: As in `ZeroShot`.
        absence: Whether prompts of absence are wanted.

    Raises:
        TrainingError: The prompt has no place for the label.
    """
    if "{}" not in prompt:
        raise TrainingError(f"prompt {prompt!r} has no {{}}: say where the label goes")
    file = resources.files("medmnist_hf.training.methods") / "zero_shot_labels.toml"
    phrases = tomllib.loads(file.read_text(encoding="utf-8")).get(entry.flag, {})
    named = [phrases.get(label, label) for label in entry.labels]
    if absence and entry.task is Task.MULTI_LABEL:
        named += [f"no {phrase}" for phrase in named]
    return [prompt.replace("{modality}", entry.modality).replace("{}", phrase) for phrase in named]


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
