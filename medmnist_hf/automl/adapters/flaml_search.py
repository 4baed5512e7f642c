"""FLAML on flattened pixels or on features: one search, or for findings one each; see job.py for how it is run."""

from __future__ import annotations

import importlib
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Tuple

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

LOG_NAME = "trials.jsonl"
"""FLAML's own log of all trials, from which a search goes on."""

Better = Callable[[Any, float, int, Dict[str, Any]], None]
"""Called with each model that is better than all before, its loss, the number of trials and its configuration."""


def name() -> str:
    """Engine and version; an `ImportError` if it is not installed."""
    importlib.import_module("flaml.automl.automl")  # `flaml` alone imports without what this needs
    return f"FLAML {importlib.import_module('flaml').__version__}"


def search(job: AutoMLJob) -> None:
    """Search as the job says, and publish whatever is better."""
    warnings.simplefilter("ignore")  # of the releases of scikit-learn about FLAML's use of them
    engine = name()
    inputs = {split: _inputs(job, split) for split in ("train", "validation", "test")}
    if job.task == MULTI_LABEL:
        one_model_a_finding(job, _finding(job, inputs, engine))
        return
    labels = {split: job.y(split) for split in ("train", "validation")}
    known = np.unique(labels["train"])
    best_before = (job.found() or {"validation_loss": np.inf})["validation_loss"]
    log = job.state / LOG_NAME
    tried = _records(log)
    log.write_text("".join(json.dumps(record) + "\n" for record in tried), encoding="utf-8")  # whole lines alone

    def better(model: Any, loss: float, trials: int, configuration: Dict[str, Any]) -> None:
        if loss >= best_before:
            return
        scores = {
            split: all_columns(model.predict_proba(inputs[split]), known, job.classes)
            for split in ("validation", "test")
        }
        told = {"engine": engine, "configuration": configuration, "validation_loss": loss}
        job.publish(scores, {**told, "trials": len(tried) + trials})

    _, trials = _fit(job, inputs, labels, job.left(), better, log)
    if job.found() is None:
        raise SearchError(_too_small(job))
    job.note(trials=len(tried) + trials)


def _finding(job: AutoMLJob, inputs: Dict[str, np.ndarray], engine: str) -> Any:
    """What searches one finding, for `one_model_a_finding`."""

    def fit(
        train: np.ndarray, validation: np.ndarray, seconds: float, about: str
    ) -> Tuple[Callable[[np.ndarray], np.ndarray], Dict[str, Any]]:
        told: Dict[str, Any] = {"engine": engine}

        def better(model: Any, loss: float, trials: int, configuration: Dict[str, Any]) -> None:
            told.update(configuration=configuration)

        print(about, flush=True)
        fitted, told["trials"] = _fit(job, inputs, {"train": train, "validation": validation}, seconds, better)
        if fitted is None:
            raise SearchError(_too_small(job))
        return lambda values: fitted.predict_proba(_scaled(job, values)), told

    return fit


def _fit(  # noqa: PLR0917
    job: AutoMLJob,
    inputs: Dict[str, np.ndarray],
    labels: Dict[str, np.ndarray],
    seconds: float,
    better: Better,
    log: Path | None = None,
) -> Tuple[Any, int]:
    """One search of FLAML: its ``AutoML`` with the best model, or None if time was too short; and the trials."""
    from flaml.automl.automl import AutoML  # after `name`, which says what is missing

    validation = labels["validation"]
    known, targets = np.unique(labels["train"], return_inverse=True)
    if len(known) < 2:
        raise SearchError(f"train has class {known[0]} alone: a search needs two or more")
    if seconds <= 0:
        return None, 0
    tried = _records(log) if log else []
    best, trials, most = np.inf, 0, job.options.get("trials")

    def loss(_x: Any, _y: Any, model: Any, *rest: Any) -> Tuple[float, Dict[str, Any]]:
        """Called by FLAML after each trial; the sixth of the rest is the configuration."""
        nonlocal best, trials
        trials += 1
        scores = model.predict_proba(inputs["validation"])
        found = _loss(scores, validation, known) if np.isfinite(scores).all() else np.inf
        if found < best:
            best = found
            learner = type(model).__name__
            better(model, found, trials, {"learner": learner, **rest[5]})
            print(f"trial {trials}: {learner}, validation loss {best:.4f}", flush=True)
        return found, {}

    automl: Any = AutoML()  # type: ignore[no-untyped-call]
    automl.fit(
        inputs["train"],
        targets,
        X_val=inputs["validation"],
        y_val=np.searchsorted(known, validation).clip(0, len(known) - 1),
        metric=loss,
        task="classification",
        time_budget=seconds,
        max_iter=max(2, most - len(tried)) if most else None,  # with one alone FLAML would train, but not score
        eval_method="holdout",
        retrain_full=False,
        skip_transform=True,
        n_jobs=job.cores,
        seed=job.seed,
        log_file_name=str(log) if log else "",
        log_type="all",
        append_log=True,
        starting_points=_starting_points(tried),
        verbose=0,
    )
    return automl if automl.best_estimator else None, trials


def _loss(scores: np.ndarray, labels: np.ndarray, known: np.ndarray) -> float:
    """1 minus the mean AUC over the classes that validation can rank; the log loss where it can rank none.

    Args:
        scores: Shape (N, K), of the known classes.
        labels: Shape (N,).
        known: Classes that train shows, in the order of scores.
    """
    whole = all_columns(scores, known, int(max(known.max(), labels.max())) + 1)
    auc = mean_auc(labels, whole)
    if np.isfinite(auc):
        return 1 - auc
    return float(-np.log(np.maximum(whole[np.arange(len(labels)), labels], 1e-12)).mean())


def _records(log: Path) -> List[Dict[str, Any]]:
    """The trials in the log of a search that was broken off."""
    records = []
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        try:
            record = json.loads(line)
        except ValueError:  # the line that was being written
            continue
        if "learner" in record:  # else it names the best one
            records.append(record)
    return records


def _starting_points(records: List[Dict[str, Any]]) -> Any:
    """The best configuration of each learner so far; FLAML's own where there is none."""
    best: Dict[str, Dict[str, Any]] = {}
    for record in records:
        known = best.get(record["learner"])
        if known is None or record["validation_loss"] < known["validation_loss"]:
            best[record["learner"]] = record
    return {learner: record["config"] for learner, record in best.items()} or "static"


def _inputs(job: AutoMLJob, split: str) -> np.ndarray:
    return _scaled(job, job.x(split))


def _scaled(job: AutoMLJob, values: np.ndarray) -> np.ndarray:
    """Pixels in 0..1, for the linear models; float32."""
    values = values.astype(np.float32)
    return values / 255 if job.inputs == "pixels" else values


def _too_small(job: AutoMLJob) -> str:
    return f"a time budget of {job.seconds:g} s is too small for one trial: give more"


if __name__ == "__main__":
    main(search, name)
