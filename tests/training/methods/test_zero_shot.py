"""Zero-shot scores of tiny CLIP and SigLIP models against the outputs of `transformers` for the same texts."""

import json
import shutil
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModel,
    AutoTokenizer,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

from medmnist_hf.catalog import Task, subset, subsets
from medmnist_hf.errors import TrainingError
from medmnist_hf.training.methods.zero_shot import ZeroShot, make_prompts
from medmnist_hf.training.models import from_transformers
from tests.fixtures.tiny_models import vit

CPU = torch.device("cpu")
PROMPT = "a {modality} image of {}."
SIZE, LENGTH = 16, 24
SPECIAL = ["<pad>", "<unk>", "<s>", "</s>"]
TOWER = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = {**TOWER, "image_size": SIZE, "patch_size": 8}


def save_tokenizer(folder: Path, **options: Any) -> int:
    """Save a tokenizer for the words of all prompts, which adds an end token; returns the size of its vocabulary."""
    words = Whitespace()
    texts = [text.lower() for entry in subsets() for text in make_prompts(entry, PROMPT, absence=True)]
    vocabulary = {word: None for text in texts for word, _ in words.pre_tokenize_str(text)}
    tokenizer: Any = Tokenizer(WordLevel({word: at for at, word in enumerate([*SPECIAL, *vocabulary])}, "<unk>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = Lowercase(), words
    tokenizer.post_processor = TemplateProcessing("<s> $A </s>", None, [("<s>", 2), ("</s>", 3)])
    kind: Any = PreTrainedTokenizerFast
    kind(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>", **options
    ).save_pretrained(folder)
    return len(SPECIAL) + len(vocabulary)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    text = {**TOWER, "vocab_size": save_tokenizer(folder), "max_position_embeddings": LENGTH, "eos_token_id": 3}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=8)).save_pretrained(folder)
    CLIPImageProcessor(image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6]).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("siglip")
    size = save_tokenizer(folder, model_input_names=["input_ids"])
    text = {**TOWER, "vocab_size": size, "max_position_embeddings": LENGTH}
    torch.manual_seed(0)
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=VISION))
    torch.nn.init.constant_(model.logit_bias, -1.5)
    model.save_pretrained(folder)
    SiglipImageProcessor().save_pretrained(folder)
    return folder


def images(samples: int, channels: int = 3) -> torch.Tensor:
    return torch.randn(samples, channels, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def scores_of(folder: Path, flag: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Scores of five images in two batches."""
    model = ZeroShot(str(folder), subset(flag), PROMPT, CPU)
    scores = model.scores([{"pixel_values": images(5)[:3]}, {"pixel_values": images(5)[3:]}])
    assert scores.dtype == np.float64 and scores.shape == (5, len(subset(flag).labels))
    return scores


def logits_of(folder: Path, texts: list[str], **padding: Any) -> torch.Tensor:
    """Logits of the model of `transformers` for images and texts."""
    tokens = AutoTokenizer.from_pretrained(folder)(texts, return_tensors="pt", **padding)
    tokens.pop("token_type_ids", None)
    with torch.inference_mode():
        logits: torch.Tensor = AutoModel.from_pretrained(folder)(pixel_values=images(5), **tokens).logits_per_image
    return logits.double()


@pytest.mark.parametrize("flag", ["pathmnist", "breastmnist", "retinamnist", "chestmnist"])
def test_clip_chooses_among_the_labels_or_between_a_finding_and_its_absence(flag: str, clip: Path) -> None:
    logits = logits_of(clip, make_prompts(subset(flag), PROMPT, absence=True), padding=True)
    if subset(flag).task is Task.MULTI_LABEL:
        expected = torch.stack([logits[:, [at, at + 14]].softmax(1)[:, 0] for at in range(14)], 1)
    else:
        expected = logits.softmax(1)
    assert np.allclose(scores_of(clip, flag), expected, atol=1e-5)


@pytest.mark.parametrize("flag", ["pathmnist", "breastmnist", "chestmnist"])
def test_siglip_scores_each_finding_independently(flag: str, siglip: Path) -> None:
    texts = make_prompts(subset(flag), PROMPT, absence=False)
    logits = logits_of(siglip, texts, padding="max_length", max_length=LENGTH)
    expected = logits.sigmoid() if subset(flag).task is Task.MULTI_LABEL else logits.softmax(1)
    assert np.allclose(scores_of(siglip, flag), expected, atol=1e-5)


def test_statistics_and_size_come_from_the_model(clip: Path, siglip: Path) -> None:
    model = ZeroShot(str(clip), subset("pathmnist"), PROMPT, CPU)
    assert (model.mean, model.std, model.image_size) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), SIZE)
    assert ZeroShot(str(siglip), subset("pathmnist"), PROMPT, CPU).mean == (0.5, 0.5, 0.5)


def test_long_prompts_are_truncated(clip: Path) -> None:
    model = ZeroShot(str(clip), subset("breastmnist"), "{}" + " image" * 50, CPU)
    assert np.isfinite(model.scores([{"pixel_values": images(2)}])).all()


def test_prompts_contain_labels_or_their_phrases_and_the_modality() -> None:
    assert make_prompts(subset("pneumoniamnist"), "{modality}: {}, {}.", absence=True) == [
        "Chest X-Ray: healthy lungs, healthy lungs.",
        "Chest X-Ray: pneumonia, pneumonia.",
    ]
    chest = make_prompts(subset("chestmnist"), "{}", absence=True)
    assert len(chest) == 28 and chest[0] == "atelectasis" and chest[14] == "no atelectasis"
    assert chest[12] == "pleural thickening" and chest[26] == "no pleural thickening"
    assert make_prompts(subset("chestmnist"), "{}", absence=False) == chest[:14]
    assert make_prompts(subset("retinamnist"), "{}", absence=True)[0] == "no diabetic retinopathy"


def test_every_phrase_belongs_to_an_existing_label() -> None:
    text = (resources.files("medmnist_hf.training.methods") / "zero_shot_labels.toml").read_text(encoding="utf-8")
    for flag, phrases in tomllib.loads(text).items():
        assert set(phrases) <= set(subset(flag).labels), flag
    assert set(tomllib.loads(text)["retinamnist"]) == set(subset("retinamnist").labels)


def refusal(name: str | Path, prompt: str = PROMPT) -> str:
    with pytest.raises(TrainingError) as caught:
        ZeroShot(str(name), subset("breastmnist"), prompt, CPU)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_invalid_models_and_prompts_are_one_line_errors(clip: Path, tmp_path: Path) -> None:
    vit().save_pretrained(tmp_path / "vit")  # type: ignore[operator]  # a model of transformers
    assert refusal(tmp_path / "vit").endswith("has no text tower: name a model of the CLIP or SigLIP family")
    assert "cannot load" in refusal(tmp_path / "nothing") and "CLIP-like" in refusal(tmp_path / "nothing")
    assert "cannot load nobody/nothing" in refusal("nobody/nothing")
    assert refusal(clip, "an image of") == "prompt 'an image of' has no {}: mark the place of the label with {}"
    shutil.copytree(clip, tmp_path / "bare")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "bare" / name).unlink()
    assert "the same" in refusal(tmp_path / "bare")  # transformers makes a tokenizer without any word
    assert "the same" in refusal(clip, "an image " * LENGTH + "of {}")


def test_a_model_with_missing_weights_is_refused(clip: Path, tmp_path: Path) -> None:
    shutil.copytree(clip, tmp_path, dirs_exist_ok=True)
    weights = load_file(clip / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    assert "lacks weights such as text_projection.weight" in refusal(tmp_path)


def test_weights_in_a_pickle_are_not_read(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(clip, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save(CLIPModel.from_pretrained(clip).state_dict(), folder / "pytorch_model.bin")
    assert "model.safetensors" in refusal(folder)


def test_gray_images_for_a_color_model_are_refused(clip: Path) -> None:
    model = ZeroShot(str(clip), subset("breastmnist"), PROMPT, CPU)
    with pytest.raises(TrainingError, match="reads 3 channels: give --channels 3"):
        model.scores([{"pixel_values": images(2, channels=1)}])


def test_the_image_size_is_rounded_down_to_whole_patches(siglip: Path, tmp_path: Path) -> None:
    """Pixels after the last whole patch would be ignored, as in SigLIP with 384 pixels and patches of 14."""
    folder = Path(shutil.copytree(siglip, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["image_size"] = SIZE + 5
    (folder / "config.json").write_text(json.dumps(config))
    assert ZeroShot(str(folder), subset("pathmnist"), PROMPT, CPU).image_size == SIZE


def test_an_oversized_configuration_is_refused_at_once(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_transformers, "MOST_LAYERS", 500)
    folder = Path(shutil.copytree(clip, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    for layers, why in ((10**9, "a number above 10000000"), (1000, "more than 500 layers")):
        config["vision_config"]["num_hidden_layers"] = layers
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(TrainingError, match=why):
            ZeroShot(str(folder), subset("pathmnist"), PROMPT, CPU)


def test_code_that_comes_with_a_model_is_never_run(tmp_path: Path) -> None:
    config = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "mine.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()")
    with pytest.raises(TrainingError, match=r"cannot load .*custom code"):
        ZeroShot(str(tmp_path), subset("pathmnist"), PROMPT, CPU)
    assert not (tmp_path / "ran").exists()
