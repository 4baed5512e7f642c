"""AutoGluon's tabular models on flattened pixels or on features, and their weighted ensemble; see job.py.

Its preset of medium quality: models fit train, validation stops them, compares them and weighs them in the ensemble.
Neither bagging nor a last fit on all rows: scores of validation are of models that have not been fitted to it. Its
neural networks need torch and fastai and are left out. A search that was broken off starts anew.
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
        one_model_a_finding,
    )
else:
    from auc import mean_auc
    from job import MULTI_LABEL, AutoMLJob, SearchError, all_columns, main, one_model_a_finding

SEEDS = {"GBM": "seed", "CAT": "random_seed", "XGB": "seed", "RF": "random_state", "XT": "random_state"}
"""The families of models that are fitted, and what each calls its seed."""

AT_THE_END = 0.1
"""Share of the budget that is kept for the ensemble and the last scores."""

LABEL = "label"
MODELS = "autogluon"

Predict = Callable[[Any], np.ndarray]
"""Table of inputs -> probabilities of the classes that train shows, (N, K)."""

Better = Callable[[Predict, dict[str, Any]], None]
"""Called with each model that is better than all before, and with what to tell."""

# Threads of LightGBM and XGBoost that wait for each other would else use up the cores that others need as well.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def name() -> str:
    """Engine and version; an `ImportError` if it is not installed."""
    importlib.import_module("autogluon.tabular")
    for library in ("lightgbm", "catboost", "xgboost"):  # without them AutoGluon would just leave models out
        importlib.import_module(library)
    return f"AutoGluon {importlib.import_module('autogluon.tabular.version').__version__}"


def search(job: AutoMLJob) -> None:
    """Search as the job says, and publish whatever is better."""
    # It would tell with each model that torch is missing, by which it looks for graphics processors.
    logging.getLogger("autogluon.common.utils.resource_utils").setLevel(logging.CRITICAL)
    try:
        _search(job, name())
    finally:
        shutil.rmtree(str(job.state / MODELS), ignore_errors=True)


def _search(job: AutoMLJob, engine: str) -> None:
    inputs = {split: _table(job.x(split)) for split in ("train", "validation", "test")}
    if job.task == MULTI_LABEL:
        one_model_a_finding(job, _finding(job, inputs, engine))
        return
    labels = {split: job.y(split) for split in ("train", "validation")}
    known = np.unique(labels["train"])

    def better(predict: Predict, told: dict[str, Any]) -> None:
        scores = {split: all_columns(predict(inputs[split]), known, job.classes) for split in ("validation", "test")}
        job.publish(scores, {"engine": engine, **told})

    _fit(job, inputs, labels, job.left(), better)


def _finding(job: AutoMLJob, inputs: dict[str, Any], engine: str) -> Any:
    """What searches one finding, for `one_model_a_finding`."""

    def fit(
        train: np.ndarray, validation: np.ndarray, seconds: float, about: str
    ) -> tuple[Callable[[np.ndarray], np.ndarray], dict[str, Any]]:
        found: dict[str, Any] = {"engine": engine}
        print(about, flush=True)
        labels = {"train": train, "validation": validation}
        predict = _fit(job, inputs, labels, seconds, lambda _, told: found.update(told))
        return lambda values: predict(_table(values)), found

    return fit


def _fit(
    job: AutoMLJob,
    inputs: dict[str, Any],
    labels: dict[str, np.ndarray],
    seconds: float,
    better: Better,
) -> Predict:
    """One search of AutoGluon; its best model, which lies in `MODELS` until the next search."""
    from autogluon.features.generators import IdentityFeatureGenerator  # after `name`
    from autogluon.tabular import TabularPredictor

    train, validation = labels["train"], labels["validation"]
    known = np.unique(train)
    if len(known) < 2:
        raise SearchError(f"train has class {known[0]} alone: a search needs two or more")
    if seconds <= 0:
        raise _too_small(job, inputs, "nothing is left of it")
    folder = job.state / MODELS
    shutil.rmtree(str(folder), ignore_errors=True)
    predictor = TabularPredictor(
        label=LABEL,
        problem_type="binary" if len(known) == 2 else "multiclass",
        eval_metric=_metric(known, validation),
        path=str(folder),
        verbosity=0,
        learner_kwargs={"label_count_threshold": 1},  # else it leaves out classes of fewer than ten rows
    )
    rows = np.isin(validation, known)
    try:
        predictor.fit(
            inputs["train"].assign(**{LABEL: train}),
            tuning_data=inputs["validation"][rows].assign(**{LABEL: validation[rows]}),
            time_limit=(1 - AT_THE_END) * seconds,
            presets="medium_quality",
            hyperparameters=_portfolio(job.seed),
            feature_generator=IdentityFeatureGenerator(),  # every column is a number already
            calibrate=False,
            calibrate_decision_threshold=False,
            num_cpus=job.cores,
            num_gpus=0,
            callbacks=[_listener(job, better)],
        )
    except (AssertionError, RuntimeError) as error:
        raise _too_small(job, inputs, str(error).partition(". ")[0]) from error

    def predict(table: Any) -> np.ndarray:
        return np.asarray(predictor.predict_proba(table, as_pandas=False))

    return predict


def _too_small(job: AutoMLJob, inputs: dict[str, Any], why: str) -> SearchError:
    columns = inputs["train"].shape[1]
    return SearchError(
        f"a time budget of {job.seconds:g} s is too small for one model of {columns} columns ({why}): "
        "give more, or a network for its features"
    )


def _metric(known: np.ndarray, validation: np.ndarray) -> Any:
    """AUC as MedMNIST defines it; the log loss where validation shows one class alone, and there is none."""
    from autogluon.core.metrics import make_scorer

    if np.isin(known, validation).sum() < 2:
        return "log_loss"
    return "roc_auc" if len(known) == 2 else make_scorer("mean_auc", mean_auc, needs_proba=True)


def _portfolio(seed: int) -> dict[str, list[dict[str, Any]]]:
    """The models of AutoGluon's default, seeded."""
    from autogluon.tabular.configs.hyperparameter_configs import get_hyperparameter_config

    default = get_hyperparameter_config("default")
    listed = {family: [models] if isinstance(models, dict) else models for family, models in default.items()}
    return {family: [{**one, seeded: seed} for one in listed[family]] for family, seeded in SEEDS.items()}


def _listener(job: AutoMLJob, better: Better) -> Any:
    """What AutoGluon calls after each model, so that the best is published whatever then happens."""
    from autogluon.core.callbacks import AbstractCallback

    class Listener(AbstractCallback):  # type: ignore[misc]
        def __reduce__(self) -> tuple[Any, ...]:
            return list, ()  # AutoGluon saves itself with what listens; this is of no use in a file

        def _before_model_fit(
            self,
            trainer: Any,
            model: Any,
            time_limit: float | None = None,
            stack_name: str = "core",
            level: int = 1,
        ) -> tuple[bool, bool]:
            """Whether to stop, and whether to leave a model out: what is beyond the trials asked for."""
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
                told = {
                    "trials": int((board.stack_level == 1).sum()),
                    "configuration": _configuration(trainer, best),
                    "metric": str(trainer.eval_metric.name),
                    "validation_score": float(board.score_val[best]),
                }
                better(lambda table: _both(trainer.predict_proba(table, model=best)), told)
            return False

    return Listener()


def _configuration(trainer: Any, best: str) -> list[dict[str, Any]]:
    """The members of an ensemble with their weights, or a model alone; with hyper-parameters as they were fitted."""
    children = trainer.load_model(best).get_info().get("children_info", {})
    weights = next(iter(children.values()))["model_weights"] if children else {best: 1.0}
    members = []
    for model, weight in weights.items():
        about = trainer.load_model(model).get_info()
        members.append({"model": model, "weight": weight, **about["hyperparameters"], **about["hyperparameters_fit"]})
    return members


def _both(scores: np.ndarray) -> np.ndarray:
    """AutoGluon's scores of a binary task are of its second class alone."""
    return np.stack([1 - scores, scores], 1) if scores.ndim == 1 else scores


def _table(values: np.ndarray) -> Any:
    """Columns with a name each, as AutoGluon wants them."""
    import pandas as pd

    return pd.DataFrame(values, columns=[str(at) for at in range(values.shape[1])])


if __name__ == "__main__":
    main(search, name)
