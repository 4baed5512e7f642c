"""`medmnist_hf.training.methods.trainer`: schedules, parameter groups, averaged weights, best epoch, exact resume."""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import EvalPrediction, TrainerCallback

from medmnist_hf.errors import DivergenceError, TrainingError
from medmnist_hf.scoring.official import ScoreWarning
from medmnist_hf.training.data.dataset import ArrayDataset
from medmnist_hf.training.data.recipe_transforms import input_transform, train_transform
from medmnist_hf.training.losses import make_loss
from medmnist_hf.training.methods.resume import checkpoint_folder, last_checkpoint
from medmnist_hf.training.methods.trainer import (
    EMA_NAME,
    RecipeTrainer,
    rate_schedule,
    training_arguments,
)
from medmnist_hf.training.models.factory import build_model
from medmnist_hf.training.models.saving import Built
from medmnist_hf.training.recipe import Recipe, make_recipe
from medmnist_hf.training.scoring import make_compute_metrics

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
        training_arguments(recipe, folder, 7, torch.device("cpu")),
        loss=make_loss("cross-entropy", LABELS[:train], 2, smoothing=recipe.label_smoothing),
        train=ArrayDataset(IMAGES[:train], LABELS[:train]),
        validation=ArrayDataset(IMAGES[32:], LABELS[32:]),
        train_transform=train_transform(recipe, *inputs, 7),
        transform=input_transform(recipe, *inputs),
        start=time.monotonic(),
        quiet=True,
    )


def steps_in(folder: Path) -> list[int]:
    return sorted(int(path.name.rpartition("-")[2]) for path in folder.glob("checkpoint-*"))


class Stop(RuntimeError):
    """Raised to interrupt a training."""


class StopAfter(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise Stop


def test_learning_rate_schedules() -> None:
    step = rate_schedule(recipe_of(schedule="step", epochs=100), 500)
    assert [round(step(at), 6) for at in (0, 249, 250, 374, 375, 499)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    cosine = rate_schedule(recipe_of(schedule="cosine", epochs=10, warmup_epochs=2), 50)
    warm = [cosine(at) for at in range(10)]
    assert warm == sorted(warm) and warm[0] > 0 and cosine(10) == 1
    assert cosine(30) == pytest.approx(0.5) and cosine(50) == pytest.approx(0, abs=1e-9)
    assert {rate_schedule(recipe_of(schedule="constant"), 9)(at) for at in range(9)} == {1.0}


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    recipe = recipe_of(
        ema=0.8, mixup=0.4, cutmix=0.4, flip_horizontal=0.5, crop_padding=2, drop_rate=0.2, warmup_epochs=1.0
    )
    whole = trainer_of(recipe, tmp_path / "whole")
    whole.train()
    interrupted = trainer_of(recipe, tmp_path / "broken")
    interrupted.add_callback(StopAfter(6))  # in the middle of the second of three epochs
    with pytest.raises(Stop):
        interrupted.train()
    torch.rand(3), np.random.rand(3)  # change the state of the generators, as in another process
    resumed = trainer_of(recipe, tmp_path / "broken")
    checkpoint = last_checkpoint(tmp_path / "broken")
    assert checkpoint is not None and checkpoint.step == 4
    resumed.train(resume_from_checkpoint=str(checkpoint_folder(checkpoint.step, tmp_path / "broken")))
    names = ("loss", "eval_loss", "eval_auc", "learning_rate")
    history = [
        [[entry[name] for name in names if name in entry] for entry in trainer.state.log_history if "epoch" in entry]
        for trainer in (whole, resumed)
    ]
    assert history[0][:-1] == history[1][:-1]  # the last entry holds durations
    for value, other in zip(whole.network.state_dict().values(), resumed.network.state_dict().values(), strict=True):
        assert torch.equal(value, other)
    for name in ("model.safetensors", EMA_NAME):
        ends = [load_file(tmp_path / run / "checkpoint-12" / name) for run in ("whole", "broken")]
        assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())


class Spoil(TrainerCallback):
    """Sets a weight to nan before a step or at the end of an epoch."""

    def __init__(self, *, step: int = -1, epoch: int = -1) -> None:
        self.step, self.epoch = step, epoch

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step == self.step:
            next(model.parameters()).data.fill_(torch.nan)

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if round(state.epoch) == self.epoch:
            next(model.parameters()).data.fill_(torch.nan)


@pytest.mark.parametrize(
    ("options", "where", "message"),
    [
        ({}, {"step": 9}, "the loss of epoch 3 is nan"),
        ({"ema": 0.5, "select": "loss"}, {"step": 9}, "the loss of epoch 3 is nan"),
        ({"select": "loss"}, {"epoch": 2}, "the validation scores of epoch 2 are not finite"),
    ],
)
def test_a_diverging_training_keeps_its_best_epoch(
    tmp_path: Path, options: dict[str, Any], where: dict[str, int], message: str
) -> None:
    trainer = trainer_of(recipe_of(epochs=5, **options), tmp_path)
    trainer.add_callback(Spoil(**where))
    trainer.train()
    assert trainer.diverged == message and int(trainer.state.epoch or 0) == 2
    best = trainer.state.best_global_step
    assert best in {4, 8} and steps_in(tmp_path)[-1] == (8 if where.get("step") else 4)
    name = EMA_NAME if "ema" in options else "model.safetensors"
    saved = load_file(checkpoint_folder(best, tmp_path) / name)
    assert all(torch.equal(value, saved[key]) for key, value in trainer.network.state_dict().items())
    assert np.isfinite(trainer.predict(ArrayDataset(IMAGES[32:], LABELS[32:])).predictions).all()
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert [np.isfinite(loss) for loss in losses] == ([True, True] if where.get("step") else [True, False])


def test_without_a_best_epoch_the_last_before_divergence_is_kept(tmp_path: Path) -> None:
    trainer = trainer_of(recipe_of(epochs=5), tmp_path)
    trainer.eval_dataset = ArrayDataset(IMAGES[32:], np.zeros(12, np.int64))  # a single class, so there is no AUC
    trainer.add_callback(Spoil(step=9))
    with pytest.warns(ScoreWarning):
        trainer.train()
    saved = load_file(checkpoint_folder(8, tmp_path) / "model.safetensors")
    assert all(torch.equal(value, saved[key]) for key, value in trainer.network.state_dict().items())


@pytest.mark.parametrize("where", [{"step": 1}, {"epoch": 1}])
def test_divergence_in_the_first_epoch_is_an_error_with_advice(tmp_path: Path, where: dict[str, int]) -> None:
    trainer = trainer_of(recipe_of(learning_rate=2.0), tmp_path)
    trainer.add_callback(Spoil(**where))
    with pytest.raises(
        DivergenceError, match=r"^training diverged within the first epoch .*: use a learning_rate below 2, more"
    ):
        trainer.train()
    assert not list(tmp_path.glob("checkpoint-*"))


def test_a_moved_run_ends_with_its_best_epoch(tmp_path: Path) -> None:
    recipe = recipe_of(learning_rate=0.02, epochs=3)
    whole = trainer_of(recipe, tmp_path / "here")
    whole.train()
    assert whole.state.best_global_step is not None and whole.state.best_global_step < 12
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert not [path for path in (tmp_path / "there").rglob("*.json") if str(tmp_path) in path.read_text()]
    moved = trainer_of(recipe, tmp_path / "there")
    moved.train(resume_from_checkpoint=str(checkpoint_folder(12, tmp_path / "there")))
    assert moved.state.best_global_step == whole.state.best_global_step
    for value, other in zip(whole.network.state_dict().values(), moved.network.state_dict().values(), strict=True):
        assert torch.equal(value, other)


def test_training_falls_back_from_a_damaged_checkpoint_with_the_same_result(tmp_path: Path) -> None:
    recipe = recipe_of(learning_rate=0.01, epochs=3)
    whole = trainer_of(recipe, tmp_path / "whole")
    whole.train()
    interrupted = trainer_of(recipe, tmp_path / "broken")
    interrupted.add_callback(StopAfter(9))
    with pytest.raises(Stop):
        interrupted.train()
    (tmp_path / "broken" / "checkpoint-8" / "optimizer.pt").unlink()
    checkpoint = last_checkpoint(tmp_path / "broken")
    assert checkpoint is not None and checkpoint.step == 4
    resumed = trainer_of(recipe, tmp_path / "broken")
    resumed.train(resume_from_checkpoint=str(checkpoint_folder(4, tmp_path / "broken")))
    for value, other in zip(whole.network.state_dict().values(), resumed.network.state_dict().values(), strict=True):
        assert torch.equal(value, other)


def test_accumulated_batches_equal_one_large_batch(tmp_path: Path) -> None:
    ends = []
    for name, sizes in (("large", {"batch_size": 16}), ("small", {"batch_size": 4, "accumulation": 4})):
        trainer = trainer_of(recipe_of(optimizer="sgd", learning_rate=0.1, epochs=1, **sizes), tmp_path / name)
        trainer.train()
        assert trainer.state.global_step == 2
        ends.append(trainer.network.state_dict())
    for key, value in ends[0].items():
        assert torch.allclose(value, ends[1][key], atol=1e-5), key


def test_rates_decrease_away_from_the_head_and_norms_do_not_decay(tmp_path: Path) -> None:
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


def test_evaluation_uses_averaged_weights_and_restores_the_trained_ones(tmp_path: Path) -> None:
    trainer = trainer_of(recipe_of(ema=0.5, epochs=1), tmp_path)
    assert trainer.ema is not None
    nn.init.zeros_(trainer.ema.module.timm_model.head.weight)
    nn.init.constant_(trainer.ema.module.timm_model.head.bias, 3.0)
    own = trainer.network.state_dict()["timm_model.head.weight"].clone()
    predicted = trainer.predict(ArrayDataset(IMAGES[32:], LABELS[32:])).predictions
    assert np.allclose(predicted, 3.0)
    assert torch.equal(trainer.network.state_dict()["timm_model.head.weight"], own)


@pytest.mark.parametrize(
    ("select", "better"), [("auc", max), ("loss", min), ("average_precision", max), ("brier", min)]
)
def test_the_best_epoch_is_kept(tmp_path: Path, select: str, better: Any) -> None:
    trainer = trainer_of(recipe_of(select=select, learning_rate=0.01, epochs=4), tmp_path)
    trainer.train()
    by_epoch = [entry[f"eval_{select}"] for entry in trainer.state.log_history if f"eval_{select}" in entry]
    final = trainer.evaluate()
    assert len(set(by_epoch)) > 1 and trainer.state.best_metric == better(by_epoch)
    assert final[f"eval_{select}"] == pytest.approx(better(by_epoch))
    assert len(list(tmp_path.glob("checkpoint-*"))) <= 3


def test_without_a_best_epoch_the_last_average_is_kept(tmp_path: Path) -> None:
    trainer = trainer_of(recipe_of(ema=0.8, epochs=2), tmp_path)
    trainer.eval_dataset = ArrayDataset(IMAGES[32:], np.zeros(12, np.int64))  # a single class, so there is no AUC
    average = trainer.ema
    with pytest.warns(ScoreWarning):
        trainer.train()
    assert average is not None and trainer.ema is None and trainer.state.best_model_checkpoint is None
    for name, value in average.module.state_dict().items():
        assert torch.equal(trainer.network.state_dict()[name], value)


def test_early_stopping_also_works_after_a_resume(tmp_path: Path) -> None:
    recipe = recipe_of(early_stopping=2, learning_rate=1e-12, optimizer="sgd", epochs=20, batch_size=16)
    trainer = trainer_of(recipe, tmp_path / "whole")
    trainer.train()
    assert trainer.state.epoch == 3
    finished = trainer_of(recipe, tmp_path / "whole")
    finished.train(resume_from_checkpoint=str(checkpoint_folder(6, tmp_path / "whole")))
    assert finished.state.global_step == 6
    interrupted = trainer_of(recipe, tmp_path / "broken")
    interrupted.add_callback(StopAfter(5))
    with pytest.raises(Stop):
        interrupted.train()
    resumed = trainer_of(recipe, tmp_path / "broken")
    resumed.train(resume_from_checkpoint=str(checkpoint_folder(4, tmp_path / "broken")))
    assert resumed.state.epoch == 3


@pytest.mark.parametrize(("rows", "batch_size"), [(9, 8), (3, 2)])
def test_a_last_batch_of_one_image_joins_the_previous(tmp_path: Path, rows: int, batch_size: int) -> None:
    """A batch norm on feature maps of one pixel has no statistics for one image."""
    recipe = recipe_of(model="timm/resnet18", epochs=1, batch_size=batch_size)
    trainer = trainer_of(recipe, tmp_path, train=rows)
    assert trainer.train().global_step == rows // batch_size


def test_batches_of_one_image_are_a_one_line_error_with_batch_norms(tmp_path: Path) -> None:
    trainer = trainer_of(recipe_of(model="timm/resnet18", epochs=1, batch_size=1), tmp_path, train=3)
    with pytest.raises(TrainingError, match="a batch norm of timm/resnet18 cannot train on one image: use a batch_si"):
        trainer.train()


def test_measures_of_logits_that_are_not_finite_are_nan() -> None:
    logits = np.array([[2.0, -1.0], [np.nan, 1.0]])
    measures = make_compute_metrics(recipe_of())(EvalPrediction(predictions=logits, label_ids=np.array([0, 1])))
    assert measures.keys() == {"auc", "acc"} and np.isnan(list(measures.values())).all()


def test_measures_equal_those_of_the_metric() -> None:
    logits = np.array([[2.0, -1.0], [0.0, 1.0], [0.5, 0.0], [-1.0, 1.0]])
    measures = make_compute_metrics(recipe_of())(EvalPrediction(predictions=logits, label_ids=np.array([0, 1, 1, 0])))
    assert measures == {"auc": 0.5, "acc": 0.5}


def test_without_an_accelerator_bf16_trains_and_fp16_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    trainer = trainer_of(recipe_of(precision="bf16", epochs=1), tmp_path)
    assert trainer.train().global_step == 4 and trainer.args.device.type == "cpu"
    with pytest.raises(TrainingError, match="fp16 needs a GPU"):
        trainer_of(recipe_of(precision="fp16"), tmp_path)
