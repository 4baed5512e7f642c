"""`medmnist_hf.training.methods.trainer`: courses, groups, averages, the best epoch, a resume that changes nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import EvalPrediction, TrainerCallback

from medmnist_hf.errors import TrainingError
from medmnist_hf.scoring.official import ScoreWarning
from medmnist_hf.training.data.dataset import ArrayDataset
from medmnist_hf.training.data.recipe_transforms import input_transform, train_transform
from medmnist_hf.training.losses import make_loss
from medmnist_hf.training.methods.trainer import (
    EMA_NAME,
    RecipeTrainer,
    last_checkpoint,
    metrics_of,
    rate_course,
    training_arguments,
)
from medmnist_hf.training.models.factory import build_model
from medmnist_hf.training.models.saving import Built
from medmnist_hf.training.recipe import Recipe, make_recipe

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (44, 28, 28), dtype=np.uint8)
LABELS = RNG.integers(0, 2, 44)
TINY = {"dataset": "breastmnist", "model": "timm/test_vit", "pretrained": False, "batch_size": 8, "epochs": 3}


def recipe_of(**options: Any) -> Recipe:
    return make_recipe({**TINY, "image_size": 32, **options})


def trainer_of(recipe: Recipe, folder: Path, *, built: Built | None = None, train: int = 32) -> RecipeTrainer:
    torch.manual_seed(7)
    built = built or build_model(recipe)
    inputs = built.mean, built.std, built.image_size
    return RecipeTrainer(
        recipe,
        built.model,
        training_arguments(recipe, folder, 7),
        loss=make_loss("cross-entropy", LABELS[:train], 2, smoothing=recipe.label_smoothing),
        train=ArrayDataset(IMAGES[:train], LABELS[:train]),
        validation=ArrayDataset(IMAGES[32:], LABELS[32:]),
        train_transform=train_transform(recipe, *inputs, 7),
        transform=input_transform(recipe, *inputs),
        quiet=True,
    )


class Stop(RuntimeError):
    """What a test interrupts a training with."""


class StopAfter(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise Stop


def test_courses_of_the_rate() -> None:
    step = rate_course(recipe_of(schedule="step", epochs=100), 500)
    assert [round(step(at), 6) for at in (0, 249, 250, 374, 375, 499)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    cosine = rate_course(recipe_of(schedule="cosine", epochs=10, warmup_epochs=2), 50)
    warm = [cosine(at) for at in range(10)]
    assert warm == sorted(warm) and warm[0] > 0 and cosine(10) == 1
    assert cosine(30) == pytest.approx(0.5) and cosine(50) == pytest.approx(0, abs=1e-9)
    assert {rate_course(recipe_of(schedule="constant"), 9)(at) for at in range(9)} == {1.0}


def test_a_resumed_training_equals_one_that_ran_through(tmp_path: Path) -> None:
    recipe = recipe_of(
        ema=0.8, mixup=0.4, cutmix=0.4, flip_horizontal=0.5, crop_padding=2, drop_rate=0.2, warmup_epochs=1.0
    )
    whole = trainer_of(recipe, tmp_path / "whole")
    whole.train()
    broken = trainer_of(recipe, tmp_path / "broken")
    broken.add_callback(StopAfter(6))  # in the middle of the second of three epochs
    with pytest.raises(Stop):
        broken.train()
    torch.rand(3), np.random.rand(3)  # what another process would have drawn
    resumed = trainer_of(recipe, tmp_path / "broken")
    found = last_checkpoint(tmp_path / "broken")
    assert found is not None and found.name == "checkpoint-4"
    resumed.train(resume_from_checkpoint=str(found))
    names = ("loss", "eval_loss", "eval_auc", "learning_rate")
    history = [
        [[entry[name] for name in names if name in entry] for entry in one.state.log_history if "epoch" in entry]
        for one in (whole, resumed)
    ]
    assert history[0][:-1] == history[1][:-1]  # the last one holds seconds
    for one, other in zip(whole.network.state_dict().values(), resumed.network.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    for name in ("model.safetensors", EMA_NAME):
        ends = [load_file(tmp_path / run / "checkpoint-12" / name) for run in ("whole", "broken")]
        assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())


def test_a_broken_checkpoint_is_removed(tmp_path: Path) -> None:
    trainer_of(recipe_of(epochs=1), tmp_path).train()
    for name, text in (("checkpoint-5", '{"epoch": 1'), ("checkpoint-10", None)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"half")
        if text is not None:
            (tmp_path / name / "trainer_state.json").write_text(text)
    found = last_checkpoint(tmp_path)
    assert found == tmp_path / "checkpoint-4" and [one.name for one in tmp_path.iterdir()] == ["checkpoint-4"]
    assert last_checkpoint(tmp_path / "nothing") is None


def test_accumulated_batches_step_as_one_large_batch(tmp_path: Path) -> None:
    ends = []
    for name, sizes in (("large", {"batch_size": 16}), ("small", {"batch_size": 4, "accumulation": 4})):
        trainer = trainer_of(recipe_of(optimizer="sgd", learning_rate=0.1, epochs=1, **sizes), tmp_path / name)
        trainer.train()
        assert trainer.state.global_step == 2
        ends.append(trainer.network.state_dict())
    for key, value in ends[0].items():
        assert torch.allclose(value, ends[1][key], atol=1e-5), key


def test_rates_fall_with_the_distance_from_the_head_and_norms_do_not_decay(tmp_path: Path) -> None:
    recipe = recipe_of(layer_decay=0.5, weight_decay=0.1, learning_rate=1.0)
    trainer = trainer_of(recipe, tmp_path)
    rates = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in trainer.create_optimizer().param_groups
        for parameter in group["params"]
    }
    named = dict(trainer.network.named_parameters())
    head, early = rates[id(named["timm_model.head.weight"])], rates[id(named["timm_model.patch_embed.proj.weight"])]
    assert head == (1.0, 0.1) and early[0] < 0.1
    assert all(rates[id(value)][1] == 0 for value in named.values() if value.ndim == 1)
    assert len(rates) == len(named)


@pytest.mark.parametrize("frozen", [True, False])
def test_batch_norms_can_keep_their_statistics(tmp_path: Path, frozen: bool) -> None:
    recipe = recipe_of(model="timm/test_efficientnet", freeze_batch_norm=frozen, epochs=2)
    trainer = trainer_of(recipe, tmp_path)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.train()
    after = trainer.network.state_dict()
    changed = {name.rpartition(".")[2] for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"weight", "bias"} | (
        set() if frozen else {"running_mean", "running_var", "num_batches_tracked"}
    )


def test_evaluation_is_of_the_average_and_training_goes_on_from_its_own_weights(tmp_path: Path) -> None:
    trainer = trainer_of(recipe_of(ema=0.5, epochs=1), tmp_path)
    assert trainer.ema is not None
    nn.init.zeros_(trainer.ema.module.timm_model.head.weight)
    nn.init.constant_(trainer.ema.module.timm_model.head.bias, 3.0)
    own = trainer.network.state_dict()["timm_model.head.weight"].clone()
    predicted = trainer.predict(ArrayDataset(IMAGES[32:], LABELS[32:])).predictions
    assert np.allclose(predicted, 3.0)
    assert torch.equal(trainer.network.state_dict()["timm_model.head.weight"], own)


@pytest.mark.parametrize(("select", "better"), [("auc", max), ("loss", min)])
def test_the_best_epoch_is_kept(tmp_path: Path, select: str, better: Any) -> None:
    trainer = trainer_of(recipe_of(select=select, learning_rate=0.01, epochs=4), tmp_path)
    trainer.train()
    each = [entry[f"eval_{select}"] for entry in trainer.state.log_history if f"eval_{select}" in entry]
    after = trainer.evaluate()
    assert len(set(each)) > 1 and trainer.state.best_metric == better(each)
    assert after[f"eval_{select}"] == pytest.approx(better(each))
    assert len(list(tmp_path.glob("checkpoint-*"))) <= 2


def test_without_a_best_epoch_the_last_average_is_kept(tmp_path: Path) -> None:
    trainer = trainer_of(recipe_of(ema=0.8, epochs=2), tmp_path)
    trainer.eval_dataset = ArrayDataset(IMAGES[32:], np.zeros(12, np.int64))  # one class alone: there is no AUC
    average = trainer.ema
    with pytest.warns(ScoreWarning):
        trainer.train()
    assert average is not None and trainer.ema is None and trainer.state.best_model_checkpoint is None
    for name, value in average.module.state_dict().items():
        assert torch.equal(trainer.network.state_dict()[name], value)


def test_it_stops_when_nothing_gets_better(tmp_path: Path) -> None:
    trainer = trainer_of(recipe_of(early_stopping=2, learning_rate=1e-12, optimizer="sgd", epochs=20), tmp_path)
    trainer.train()
    assert trainer.state.epoch == 3


def test_scores_are_those_of_the_metric() -> None:
    logits = np.array([[2.0, -1.0], [0.0, 1.0], [0.5, 0.0], [-1.0, 1.0]])
    found = metrics_of(recipe_of())(EvalPrediction(predictions=logits, label_ids=np.array([0, 1, 1, 0])))
    assert found == {"auc": 0.5, "acc": 0.5}


def test_without_an_accelerator_bf16_trains_and_fp16_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    trainer = trainer_of(recipe_of(precision="bf16", epochs=1), tmp_path)
    assert trainer.train().global_step == 4 and trainer.args.device.type == "cpu"
    with pytest.raises(TrainingError, match="fp16 needs a GPU"):
        trainer_of(recipe_of(precision="fp16"), tmp_path)
