"""A `transformers.Trainer` for recipes: array loader, losses by task, layer-wise rates, mixing, averaged weights."""

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from timm.optim._param_groups import param_groups_layer_decay, param_groups_weight_decay
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from tqdm.auto import tqdm  # type: ignore[import-untyped]
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from medmnist_hf.errors import DivergenceError, TrainingError
from medmnist_hf.scoring.metrics import LOWER_IS_BETTER
from medmnist_hf.training.data.dataset import ArrayDataset
from medmnist_hf.training.data.loader import ArrayLoader
from medmnist_hf.training.data.recipe_transforms import make_mixing
from medmnist_hf.training.data.transforms import BatchTransform
from medmnist_hf.training.losses import LossFunction
from medmnist_hf.training.methods.resume import checkpoint_folder, complete_checkpoint
from medmnist_hf.training.models.heads import network_of
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.scoring import make_compute_metrics

EMA_NAME: Final = "ema.safetensors"
"""File of the averaged weights in a checkpoint."""

SGD_MOMENTUM: Final = 0.9
STEP_AT: Final = (0.5, 0.75)
STEP_FACTOR: Final = 0.1


class RecipeTrainer(Trainer):
    """Trains one model on one seed.

    Args:
        recipe: The recipe.
        model: From `medmnist_hf.training.models.factory.build_model`.
        args: From `training_arguments`.
        loss: From `medmnist_hf.training.losses.make_loss`.
        train: The train split.
        validation: The validation split, on which the epoch is selected.
        train_transform: Transform with augmentation.
        transform: Transform without augmentation.
        start: Start of training by `time.monotonic`, minus the seconds of a resumed training.
        quiet: Show no progress on the terminal.
        workers: Number of threads that make train batches; None chooses.

    Attributes:
        diverged: Description of where the loss or the validation scores were not finite; empty if they were. Training
            ends there, and the best epoch so far is kept.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: nn.Module,
        args: TrainingArguments,
        *,
        loss: LossFunction,
        train: ArrayDataset,
        validation: ArrayDataset,
        train_transform: BatchTransform,
        transform: BatchTransform,
        start: float,
        quiet: bool = False,
        workers: int | None = None,
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            data_collator=transform,
            train_dataset=train,
            eval_dataset=validation,
            compute_metrics=make_compute_metrics(recipe),
        )
        self.recipe, self.loss_function, self.train_transform = recipe, loss, train_transform
        self.network, self.train_arrays, self.start = model, train, start
        self.checkpoints = Path(str(args.output_dir))
        self.loss_is_scaled_for_ga, self.mix = False, make_mixing(recipe)
        self.diverged, self.workers = "", workers
        self._saved: int | None = None
        self.add_callback(_StopCallback(self))
        self.ema = ModelEmaV3(model, decay=recipe.ema) if recipe.ema else None
        if self.ema is not None:
            self.add_callback(_EmaCallback(self.ema))
        self.remove_callback(PrinterCallback)
        if not quiet:
            self.add_callback(_ProgressCallback())

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Load augmented batches of this process's share of train."""
        return ArrayLoader(
            self.train_arrays,
            self.args.per_device_train_batch_size,
            shuffle=True,
            seed=self.args.seed,
            groups=self.train_arrays.groups,
            transform=self.train_transform,
            prefetch=self.workers,
            rank=self.args.process_index,
            world_size=self.args.world_size,
            join_single=True,
        )

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make Adam, AdamW or SGD, with learning rate and decay by group of weights."""
        if self.optimizer is None:
            recipe, trained = self.recipe, model or self.network
            inner = network_of(trained)
            groups: list[dict[str, Any]] = (
                param_groups_layer_decay(inner, recipe.weight_decay, layer_decay=recipe.layer_decay)
                if recipe.layer_decay < 1
                else param_groups_weight_decay(inner, recipe.weight_decay)
            )
            is_frozen = not all(parameter.requires_grad for parameter in inner.parameters())
            if recipe.layer_decay < 1 and len({group["lr_scale"] for group in groups}) == 1 and not is_frozen:
                raise TrainingError(f"{recipe.model} has no named layers, which layer_decay needs: leave it out")
            for group in groups:
                group["lr"] = recipe.learning_rate * group.pop("lr_scale", 1.0)
            if recipe.optimizer == "sgd":
                self.optimizer = torch.optim.SGD(groups, recipe.learning_rate, SGD_MOMENTUM, nesterov=True)
            else:
                kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
                self.optimizer = kind(groups, recipe.learning_rate)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Make the schedule of the recipe, with warm-up."""
        if self.lr_scheduler is None:
            schedule = rate_schedule(self.recipe, num_training_steps)
            self.lr_scheduler = LambdaLR(optimizer or self.create_optimizer(), schedule)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Compute the loss, in training on mixed images if the recipe says so."""
        images, labels = inputs["pixel_values"], inputs["labels"]
        if model.training:
            for norm in self._fixed_norms:
                norm.eval()
        if model.training and self.mix is not None:
            images, labels = self.mix(images, labels)
        outputs = model(pixel_values=images)
        loss = self.loss_function(outputs.logits, labels)
        return (loss, {"loss": loss, "logits": outputs.logits}) if return_outputs else loss

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """As in `transformers`, but check in all processes whether the loss is finite."""
        try:
            loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise TrainingError(
                f"a batch norm of {self.recipe.model} cannot train on one image: "
                "use a batch_size of 2 or more and at least 2 train images, or freeze_batch_norm"
            ) from None
        not_finite = ~torch.isfinite(loss.detach())
        if bool(self.accelerator.gather(not_finite.reshape(1)).any() if self.args.world_size > 1 else not_finite):
            self.diverged = f"the loss of epoch {int(self.state.epoch or 0) + 1} is {loss.item()}"
        return loss

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As in `transformers`. If no epoch was best, because validation has no AUC, keep the last averaged weights.

        Raises:
            DivergenceError: The loss was not finite within the first epoch.
        """
        output = super().train(*args, **kwargs)
        if self.ema is not None:
            self.network.load_state_dict(self.ema.module.state_dict())
            self.ema = None
        return output

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """As in `transformers`, but with the averaged weights if there are any."""
        with self._averaged():
            return super().evaluation_loop(*args, **kwargs)

    def floating_point_ops(self, inputs: Any) -> int:
        """Always 0: `transformers` would count all weights in every step, for an estimate that nothing here reads."""
        return 0

    @cached_property
    def _fixed_norms(self) -> list[nn.Module]:
        """The norms whose running statistics do not change: those with frozen weights, or all of them."""
        norms = [norm for norm in self.network.modules() if norm._buffers.get("running_var") is not None]
        if self.recipe.freeze_batch_norm:
            return norms
        return [norm for norm in norms if {weight.requires_grad for weight in norm.parameters()} == {False}]

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch."""
        return max(1, self.state.max_steps // self.recipe.epochs)

    @property
    def is_exhausted(self) -> bool:
        """Whether early stopping is due, derived from steps so that it also holds after a resume."""
        since = self.state.global_step - (self.state.best_global_step or self.steps_per_epoch)
        return bool(self.recipe.early_stopping) and since >= self.recipe.early_stopping * self.steps_per_epoch

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        step = self.state.global_step
        folder = checkpoint_folder(step, self.checkpoints)
        if self.ema is not None and self.args.should_save:
            folder.mkdir(parents=True, exist_ok=True)
            save_file(_plain(self.ema.module), folder / EMA_NAME)
        super()._save_checkpoint(model, trial)
        self._saved = step
        self.accelerator.wait_for_everyone()  # each process writes the state of its random numbers
        if self.args.should_save:
            # The best checkpoint is identified by its step, since a path would break when the run is moved.
            self.state.best_model_checkpoint = None
            self.state.save_to_json(str(folder / TRAINER_STATE_NAME))
            complete_checkpoint(
                step,
                self.checkpoints,
                best=self.state.best_global_step,
                seconds=time.monotonic() - self.start,
                processes=self.args.world_size,
            )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.ema is not None:
            self.ema.module.load_state_dict(load_file(Path(resume_from_checkpoint, EMA_NAME)))

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        """As in `transformers`, but skip all epochs if the interrupted training had already stopped early."""
        trained, steps = super()._init_training_state(*args, **kwargs)
        self._saved = self.state.global_step or None
        return (self.recipe.epochs, 0) if self.is_exhausted else (trained, steps)

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        if self.diverged:
            self.state.best_global_step = self.state.best_global_step or self._saved
            if self.state.best_global_step is None:
                raise DivergenceError(f"training diverged within the first epoch ({self.diverged}): {self.advice}")
        if self.state.best_global_step is not None:
            self.state.best_model_checkpoint = str(checkpoint_folder(self.state.best_global_step, self.checkpoints))
        return super()._finalize_training(*args, **kwargs)  # type: ignore[no-untyped-call]

    @property
    def advice(self) -> str:
        """Advice on a recipe whose training diverged."""
        recipe = self.recipe
        clipped = "a smaller" if recipe.max_grad_norm else "a"
        return f"use a learning_rate below {recipe.learning_rate:g}, more warmup_epochs or {clipped} max_grad_norm"

    def _load_best_model(self) -> None:
        if self.ema is None:
            super()._load_best_model()
            return
        self.network.load_state_dict(load_file(Path(str(self.state.best_model_checkpoint), EMA_NAME)))
        self.ema = None  # the network now holds the best averaged weights

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        if self.ema is None:
            yield
            return
        own = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.ema.module.state_dict())
        try:
            yield
        finally:
            self.network.load_state_dict(own)


class _EmaCallback(TrainerCallback):
    """Updates the averaged weights after each optimizer step."""

    def __init__(self, ema: ModelEmaV3) -> None:
        self.ema = ema

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.ema.update(more["model"])


class _StopCallback(TrainerCallback):
    """Stops training after it diverged, without a checkpoint, and when early stopping is due."""

    def __init__(self, trainer: RecipeTrainer) -> None:
        self.trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.trainer.diverged:
            control.should_training_stop = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.trainer.diverged:
            control.should_log = control.should_evaluate = control.should_save = False

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        if self.trainer.is_in_train and math.isnan(metrics["eval_acc"]):
            self.trainer.diverged = f"the validation scores of epoch {round(state.epoch)} are not finite"
            control.should_save, control.should_training_stop = False, True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.trainer.is_exhausted:
            control.should_training_stop = True


class _ProgressCallback(ProgressCallback):
    """Shows a progress bar on terminals, and one line per epoch instead of the trainer's log."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.current_step, self.train_loss = 0, ""
        if state.is_world_process_zero:
            self.training_bar = tqdm(total=state.max_steps, dynamic_ncols=True, disable=None, unit="step")
            begin = f"resumes  after epoch {round(state.epoch or 0)}" if state.global_step else "begins   epoch 1"
            tqdm.write(f"  {begin} of {args.num_train_epochs:g}", file=sys.stderr)

    def on_prediction_step(self, args: Any, state: Any, control: Any, eval_dataloader: Any = None, **_: Any) -> None:
        """No progress bar for evaluation, which is short."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if not state.is_world_process_zero or self.training_bar is None or not logs:
            return
        if "loss" in logs:  # the train loss is logged before validation is scored
            self.train_loss = f"train loss {logs['loss']:.3f}, "
        if "eval_auc" in logs:
            names = {"loss": "loss", "auc": "AUC", "acc": "ACC"}
            names.setdefault(str(args.metric_for_best_model), str(args.metric_for_best_model))
            values = ", ".join(f"{shown} {logs[f'eval_{name}']:.3f}" for name, shown in names.items())
            epoch = f"epoch {round(logs['epoch']):3d}/{args.num_train_epochs:g}  {self.train_loss}"
            self.training_bar.write(f"{epoch}validation {values}", file=sys.stderr)


def _plain(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}


def rate_schedule(recipe: Recipe, steps: int) -> Callable[[int], float]:
    """Make the learning rate schedule: a function of the step that returns the factor on the peak rate.

    After a linear warm-up, ``cosine`` decays to 0 over the remaining steps, ``step`` multiplies by `STEP_FACTOR` after
    each fraction `STEP_AT` of the epochs, between epochs, and ``constant`` keeps the rate.
    """
    warmup = round(recipe.warmup_epochs / recipe.epochs * steps)
    steps_per_epoch = max(1, round(steps / recipe.epochs))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if recipe.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
        if recipe.schedule == "step":
            epoch = step // steps_per_epoch
            return STEP_FACTOR ** sum(epoch >= max(1, int(fraction * recipe.epochs)) for fraction in STEP_AT)
        return 1.0

    return factor


def training_arguments(recipe: Recipe, folder: Path, seed: int, device: torch.device) -> TrainingArguments:
    """The arguments of `RecipeTrainer`, with one evaluation and one checkpoint per epoch.

    Args:
        recipe: The recipe.
        folder: Folder for checkpoints.
        seed: Seed of weights, order and augmentation.
        device: Device to train on.

    Raises:
        TrainingError: The precision is not supported on a CPU.
    """
    on_cpu = device.type == "cpu"
    if recipe.precision == "fp16" and on_cpu:
        raise TrainingError("precision fp16 needs a GPU, but this runs on a CPU: use bf16 or fp32")
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=2 * recipe.batch_size,
        gradient_accumulation_steps=recipe.accumulation,
        max_grad_norm=recipe.max_grad_norm,
        learning_rate=recipe.learning_rate,
        use_cpu=on_cpu,  # otherwise bf16 is refused on a CPU
        bf16=recipe.precision == "bf16",
        fp16=recipe.precision == "fp16",
        torch_compile=recipe.compile,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        logging_nan_inf_filter=False,  # it would hide divergence
        load_best_model_at_end=True,
        metric_for_best_model=recipe.select,
        greater_is_better=recipe.select not in {"loss", *LOWER_IS_BETTER},
        remove_unused_columns=False,
        label_names=["labels"],
        report_to="none",  # trackers are called by `finetune`, see `medmnist_hf.training.tracking`
        seed=seed,
        disable_tqdm=True,  # `_ProgressCallback` replaces it
        dataloader_pin_memory=not on_cpu and torch.cuda.is_available(),
    )
    if arguments.world_size == 1:
        # Without a launcher, the trainer would use all GPUs by DataParallel.
        arguments._n_gpu = 0 if on_cpu else 1
        vars(arguments)["_setup_devices"] = device
    return arguments
