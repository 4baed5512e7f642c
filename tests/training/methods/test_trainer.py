"""`medmnist_hf.training.methods.trainer`: courses, groups, averages, the best epoch, a resume that changes nothing."""

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
from medmnist_hf.training.methods.resume import folder_of, last_checkpoint
from medmnist_hf.training.methods.trainer import (
    EMA_NAME,
    RecipeTrainer,
    rate_course,
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
        begun=time.monotonic(),
        quiet=True,
    )


def steps_in(folder: Path) -> list[int]:
    return sorted(int(path.name.rpartition("-")[2]) for path in folder.glob("checkpoint-*"))


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
    assert found is not None and found.step == 4
    resumed.train(resume_from_checkpoint=str(folder_of(found.step, tmp_path / "broken")))
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


class Spoil(TrainerCallback):
    """Makes a weight nan before a step, or behind the last step of an epoch."""

    def __init__(self, *, step: int = -1, epoch: int = -1) -> None:
        self.step, self.epoch = step, epoch

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step == self.step:
            next(model.parameters()).data.fill_(torch.nan)

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if round(state.epoch) == self.epoch:
            next(model.parameters()).data.fill_(torch.nan)


@pytest.mark.parametrize(
    ("options", "where", "told"),
    [
        ({}, {"step": 9}, "the loss of epoch 3 is nan"),
        ({"ema": 0.5, "select": "loss"}, {"step": 9}, "the loss of epoch 3 is nan"),
        ({"select": "loss"}, {"epoch": 2}, "the validation scores of epoch 2 are not finite"),
    ],
)
def test_a_training_that_diverges_keeps_its_best_epoch(
    tmp_path: Path, options: dict[str, Any], where: dict[str, int], told: str
) -> None:
    trainer = trainer_of(recipe_of(epochs=5, **options), tmp_path)
    trainer.add_callback(Spoil(**where))
    trainer.train()
    assert trainer.diverged == told and int(trainer.state.epoch or 0) == 2
    best = trainer.state.best_global_step
    assert best in {4, 8} and steps_in(tmp_path)[-1] == (8 if where.get("step") else 4)
    name = EMA_NAME if "ema" in options else "model.safetensors"
    kept = load_file(folder_of(best, tmp_path) / name)
    assert all(torch.equal(value, kept[key]) for key, value in trainer.network.state_dict().items())
    assert np.isfinite(trainer.predict(ArrayDataset(IMAGES[32:], LABELS[32:])).predictions).all()
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert [np.isfinite(loss) for loss in losses] == ([True, True] if where.get("step") else [True, False])


def test_without_a_best_epoch_the_last_before_it_diverges_is_kept(tmp_path: Path) -> None:
    trainer = trainer_of(recipe_of(epochs=5), tmp_path)
    trainer.eval_dataset = ArrayDataset(IMAGES[32:], np.zeros(12, np.int64))  # one class alone: there is no AUC
    trainer.add_callback(Spoil(step=9))
    with pytest.warns(ScoreWarning):
        trainer.train()
    kept = load_file(folder_of(8, tmp_path) / "model.safetensors")
    assert all(torch.equal(value, kept[key]) for key, value in trainer.network.state_dict().items())


@pytest.mark.parametrize("where", [{"step": 1}, {"epoch": 1}])
def test_a_training_that_never_was_well_says_what_to_change(tmp_path: Path, where: dict[str, int]) -> None:
    trainer = trainer_of(recipe_of(learning_rate=2.0), tmp_path)
    trainer.add_callback(Spoil(**where))
    with pytest.raises(DivergenceError, match=r"^training diverged .* epoch 1 .*: use a learning_rate below 2, more"):
        trainer.train()
    assert not list(tmp_path.glob("checkpoint-*"))


def test_a_run_that_was_moved_at_its_end_delivers_its_best_epoch(tmp_path: Path) -> None:
    recipe = recipe_of(learning_rate=0.02, epochs=3)
    whole = trainer_of(recipe, tmp_path / "here")
    whole.train()
    assert whole.state.best_global_step is not None and whole.state.best_global_step < 12
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert not [path for path in (tmp_path / "there").rglob("*.json") if str(tmp_path) in path.read_text()]
    moved = trainer_of(recipe, tmp_path / "there")
    moved.train(resume_from_checkpoint=str(folder_of(12, tmp_path / "there")))
    assert moved.state.best_global_step == whole.state.best_global_step
    for one, other in zip(whole.network.state_dict().values(), moved.network.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_from_a_damaged_checkpoint_training_falls_back_and_ends_the_same(tmp_path: Path) -> None:
    recipe = recipe_of(learning_rate=0.01, epochs=3)
    whole = trainer_of(recipe, tmp_path / "whole")
    whole.train()
    broken = trainer_of(recipe, tmp_path / "broken")
    broken.add_callback(StopAfter(9))
    with pytest.raises(Stop):
        broken.train()
    (tmp_path / "broken" / "checkpoint-8" / "optimizer.pt").unlink()
    found = last_checkpoint(tmp_path / "broken")
    assert found is not None and found.step == 4
    resumed = trainer_of(recipe, tmp_path / "broken")
    resumed.train(resume_from_checkpoint=str(folder_of(4, tmp_path / "broken")))
    for one, other in zip(whole.network.state_dict().values(), resumed.network.state_dict().values(), strict=True):
        assert torch.equal(one, other)


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
    assert len(list(tmp_path.glob("checkpoint-*"))) <= 3


def test_without_a_best_epoch_the_last_average_is_kept(tmp_path: Path) -> None:
    trainer = trainer_of(recipe_of(ema=0.8, epochs=2), tmp_path)
    trainer.eval_dataset = ArrayDataset(IMAGES[32:], np.zeros(12, np.int64))  # one class alone: there is no AUC
    average = trainer.ema
    with pytest.warns(ScoreWarning):
        trainer.train()
    assert average is not None and trainer.ema is None and trainer.state.best_model_checkpoint is None
    for name, value in average.module.state_dict().items():
        assert torch.equal(trainer.network.state_dict()[name], value)


def test_it_stops_when_nothing_gets_better_also_when_it_is_resumed(tmp_path: Path) -> None:
    recipe = recipe_of(early_stopping=2, learning_rate=1e-12, optimizer="sgd", epochs=20, batch_size=16)
    trainer = trainer_of(recipe, tmp_path / "whole")
    trainer.train()
    assert trainer.state.epoch == 3
    again = trainer_of(recipe, tmp_path / "whole")
    again.train(resume_from_checkpoint=str(folder_of(6, tmp_path / "whole")))
    assert again.state.global_step == 6
    interrupted = trainer_of(recipe, tmp_path / "broken")
    interrupted.add_callback(StopAfter(5))
    with pytest.raises(Stop):
        interrupted.train()
    resumed = trainer_of(recipe, tmp_path / "broken")
    resumed.train(resume_from_checkpoint=str(folder_of(4, tmp_path / "broken")))
    assert resumed.state.epoch == 3


@pytest.mark.parametrize(("rows", "batch_size"), [(9, 8), (3, 2)])
def test_a_last_batch_of_one_image_is_trained_with_the_one_before(tmp_path: Path, rows: int, batch_size: int) -> None:
    """A batch norm on maps of one pixel has no statistics of one image."""
    recipe = recipe_of(model="timm/resnet18", epochs=1, batch_size=batch_size)
    trainer = trainer_of(recipe, tmp_path, train=rows)
    assert trainer.train().global_step == rows // batch_size


def test_batches_of_one_image_that_cannot_be_trained_are_one_line(tmp_path: Path) -> None:
    trainer = trainer_of(recipe_of(model="timm/resnet18", epochs=1, batch_size=1), tmp_path, train=3)
    with pytest.raises(TrainingError, match="a batch norm of timm/resnet18 cannot train on one image: use a batch_si"):
        trainer.train()


def test_scores_that_are_not_finite_have_no_measures() -> None:
    logits = np.array([[2.0, -1.0], [np.nan, 1.0]])
    found = make_compute_metrics(recipe_of())(EvalPrediction(predictions=logits, label_ids=np.array([0, 1])))
    assert found.keys() == {"auc", "acc"} and np.isnan(list(found.values())).all()


def test_scores_are_those_of_the_metric() -> None:
    logits = np.array([[2.0, -1.0], [0.0, 1.0], [0.5, 0.0], [-1.0, 1.0]])
    found = make_compute_metrics(recipe_of())(EvalPrediction(predictions=logits, label_ids=np.array([0, 1, 1, 0])))
    assert found == {"auc": 0.5, "acc": 0.5}


def test_without_an_accelerator_bf16_trains_and_fp16_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    trainer = trainer_of(recipe_of(precision="bf16", epochs=1), tmp_path)
    assert trainer.train().global_step == 4 and trainer.args.device.type == "cpu"
    with pytest.raises(TrainingError, match="fp16 needs a GPU"):
        trainer_of(recipe_of(precision="fp16"), tmp_path)
