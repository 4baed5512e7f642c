"""AutoGluon's tabular models on flattened pixels or on features, and their weighted ensemble. See job.py.

This uses the preset ``medium_quality``: models are fitted to train; validation is used for early stopping, to compare
models and to weight them in the ensemble. There is no bagging and no final fit on all rows, so validation scores come
from models that were not fitted to validation. Neural networks are left out, since they need torch and fastai. An
interrupted search starts anew.
"""

from __future__ import annotations

import importlib
import logging
import os
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from medmnist_hf.automl.adapters.auc import mean_auc
    from medmnist_hf.automl.adapters.job import (
        MULTI_LABEL,
        AutoMLJob,
        SearchError,
        all_columns,
        main,
        search_each_finding,
    )
else:
    from auc import mean_auc
    from job import MULTI_LABEL, AutoMLJob, SearchError, all_columns, main, search_each_finding

SEEDS = {"GBM": "seed", "CAT": "random_seed", "XGB": "seed", "RF": "random_state", "XT": "random_state"}
"""Model families that are fitted -> name of their seed parameter."""

FINAL_SHARE = 0.1
"""Fraction of the budget reserved for the ensemble and the final scores."""

LABEL = "label"
MODELS = "autogluon"

Predict = Callable[[Any], np.ndarray]
"""Maps a table of inputs to probabilities of the classes that occur in train, (N, K)."""

OnBetter = Callable[[Predict, dict[str, Any]], None]
"""Called with each new best model and facts about it."""

# Otherwise waiting threads of LightGBM and XGBoost keep cores busy that others need.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def name() -> str:
    """Return engine and version; raises `ImportError` if it is not installed."""
    importlib.import_module("autogluon.tabular")
    for library in ("lightgbm", "catboost", "xgboost"):  # without them AutoGluon silently skips models
        importlib.import_module(library)
    return f"AutoGluon {importlib.import_module('autogluon.tabular.version').__version__}"


def search(job: AutoMLJob) -> None:
    """Run the search of a job and publish each new best model."""
    # AutoGluon uses torch to look for GPUs, and would report with each model that torch is missing.
    logging.getLogger("autogluon.common.utils.resource_utils").setLevel(logging.CRITICAL)
    try:
        _search(job, name())
    finally:
        shutil.rmtree(str(job.state / MODELS), ignore_errors=True)


def _search(job: AutoMLJob, engine: str) -> None:
    inputs = {split: _table(job.x(split)) for split in ("train", "validation", "test")}
    if job.task == MULTI_LABEL:
        search_each_finding(job, _finding_search(job, inputs, engine))
        return
    labels = {split: job.y(split) for split in ("train", "validation")}
    known = np.unique(labels["train"])

    def on_better(predict: Predict, facts: dict[str, Any]) -> None:
        scores = {split: all_columns(predict(inputs[split]), known, job.classes) for split in ("validation", "test")}
        job.publish(scores, {"engine": engine, **facts})

    _fit(job, inputs, labels, job.left(), on_better)


def _finding_search(job: AutoMLJob, inputs: dict[str, Any], engine: str) -> Any:
    """Return the search of one finding, for `search_each_finding`."""

    def fit(
        train: np.ndarray, validation: np.ndarray, seconds: float, finding: str
    ) -> tuple[Callable[[np.ndarray], np.ndarray], dict[str, Any]]:
        facts: dict[str, Any] = {"engine": engine}
        print(finding, flush=True)
        labels = {"train": train, "validation": validation}
        predict = _fit(job, inputs, labels, seconds, lambda _, model_facts: facts.update(model_facts))
        return lambda values: predict(_table(values)), facts

    return fit


def _fit(
    job: AutoMLJob,
    inputs: dict[str, Any],
    labels: dict[str, np.ndarray],
    seconds: float,
    on_better: OnBetter,
) -> Predict:
    """Run AutoGluon and return its best model, which is kept in `MODELS` until the next search."""
    from autogluon.features.generators import IdentityFeatureGenerator  # after `name`
    from autogluon.tabular import TabularPredictor

    train, validation = labels["train"], labels["validation"]
    known = np.unique(train)
    if len(known) < 2:
        raise SearchError(f"train has only class {known[0]}: a search needs two or more")
    if seconds <= 0:
        raise _too_small(job, inputs, "it is used up")
    folder = job.state / MODELS
    shutil.rmtree(str(folder), ignore_errors=True)
    predictor = TabularPredictor(
        label=LABEL,
        problem_type="binary" if len(known) == 2 else "multiclass",
        eval_metric=_metric(known, validation),
        path=str(folder),
        verbosity=0,
        learner_kwargs={"label_count_threshold": 1},  # otherwise classes with fewer than ten rows are dropped
    )
    rows = np.isin(validation, known)
    try:
        predictor.fit(
            inputs["train"].assign(**{LABEL: train}),
            tuning_data=inputs["validation"][rows].assign(**{LABEL: validation[rows]}),
            time_limit=(1 - FINAL_SHARE) * seconds,
            presets="medium_quality",
            hyperparameters=_portfolio(job.seed),
            feature_generator=IdentityFeatureGenerator(),  # all columns are numeric
            calibrate=False,
            calibrate_decision_threshold=False,
            num_cpus=job.cores,
            num_gpus=0,
            callbacks=[_listener(job, on_better)],
        )
    except (AssertionError, RuntimeError) as error:
        raise _too_small(job, inputs, str(error).partition(". ")[0]) from error

    def predict(table: Any) -> np.ndarray:
        return np.asarray(predictor.predict_proba(table, as_pandas=False))

    return predict


def _too_small(job: AutoMLJob, inputs: dict[str, Any], reason: str) -> SearchError:
    columns = inputs["train"].shape[1]
    return SearchError(
        f"a time budget of {job.seconds:g} s is too small for one model of {columns} columns ({reason}): "
        "give more, or search on the features of a network"
    )


def _metric(known: np.ndarray, validation: np.ndarray) -> Any:
    """Return the AUC as MedMNIST defines it, or the log loss if validation has only one class and thus no AUC."""
    from autogluon.core.metrics import make_scorer

    if np.isin(known, validation).sum() < 2:
        return "log_loss"
    return "roc_auc" if len(known) == 2 else make_scorer("mean_auc", mean_auc, needs_proba=True)


def _portfolio(seed: int) -> dict[str, list[dict[str, Any]]]:
    """Return the models of AutoGluon's default portfolio, with a seed."""
    from autogluon.tabular.configs.hyperparameter_configs import get_hyperparameter_config

    default = get_hyperparameter_config("default")
    families = {family: [models] if isinstance(models, dict) else models for family, models in default.items()}
    return {family: [{**model, parameter: seed} for model in families[family]] for family, parameter in SEEDS.items()}


def _listener(job: AutoMLJob, on_better: OnBetter) -> Any:
    """Return the callback for AutoGluon that publishes each new best model."""
    from autogluon.core.callbacks import AbstractCallback

    class Listener(AbstractCallback):  # type: ignore[misc]
        def __reduce__(self) -> tuple[Any, ...]:
            return list, ()  # AutoGluon pickles itself with its callbacks; a loaded one is not needed

        def _before_model_fit(
            self,
            trainer: Any,
            model: Any,
            time_limit: float | None = None,
            stack_name: str = "core",
            level: int = 1,
        ) -> tuple[bool, bool]:
            """Return whether to stop, and whether to skip the model, as when the requested trials are done."""
            return False, level == 1 and len(trainer.get_model_names(level=1)) >= job.options.get("trials", np.inf)

        def _after_model_fit(
            self,
            trainer: Any,
            model_names: list[str],
            stack_name: str = "core",
            level: int = 1,
        ) -> bool:
            board = trainer.leaderboard().set_index("model")
            for model in model_names:
                print(f"{model}: {board.score_val[model]:.4f} on validation, {job.left():.0f} s left", flush=True)
            best = trainer.get_model_best() if model_names else ""
            if best in model_names:
                facts = {
                    "trials": int((board.stack_level == 1).sum()),
                    "configuration": _configuration(trainer, best),
                    "metric": str(trainer.eval_metric.name),
                    "validation_score": float(board.score_val[best]),
                }
                on_better(lambda table: _both_classes(trainer.predict_proba(table, model=best)), facts)
            return False

    return Listener()


def _configuration(trainer: Any, best: str) -> list[dict[str, Any]]:
    """Return the members of an ensemble with weights, or a single model, with the hyperparameters used for fitting."""
    children = trainer.load_model(best).get_info().get("children_info", {})
    weights = next(iter(children.values()))["model_weights"] if children else {best: 1.0}
    members = []
    for model, weight in weights.items():
        info = trainer.load_model(model).get_info()
        members.append({"model": model, "weight": weight, **info["hyperparameters"], **info["hyperparameters_fit"]})
    return members


def _both_classes(scores: np.ndarray) -> np.ndarray:
    """Return scores of both classes of a binary task, for which AutoGluon gives only those of the second."""
    return np.stack([1 - scores, scores], 1) if scores.ndim == 1 else scores


def _table(values: np.ndarray) -> Any:
    """Return a table with named columns, which AutoGluon requires."""
    import pandas as pd

    return pd.DataFrame(values, columns=[str(index) for index in range(values.shape[1])])


if __name__ == "__main__":
    main(search, name)
