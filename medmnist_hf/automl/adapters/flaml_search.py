"""FLAML on flattened pixels or on features: one search, or one per finding. See job.py for how it is run."""

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
        search_each_finding,
    )
else:
    from auc import mean_auc
    from job import MULTI_LABEL, AutoMLJob, SearchError, all_columns, main, search_each_finding

LOG_NAME = "trials.jsonl"
"""FLAML's own log of all trials, from which a search resumes."""

OnBetter = Callable[[Any, float, int, Dict[str, Any]], None]
"""Called with each new best model, its loss, the number of trials and its configuration."""


def name() -> str:
    """Return engine and version; raises `ImportError` if it is not installed."""
    importlib.import_module("flaml.automl.automl")  # `flaml` alone can be imported without its search dependencies
    return f"FLAML {importlib.import_module('flaml').__version__}"


def search(job: AutoMLJob) -> None:
    """Run the search of a job and publish each new best model."""
    warnings.simplefilter("ignore")  # scikit-learn's warnings about FLAML's use of it
    engine = name()
    inputs = {split: _inputs(job, split) for split in ("train", "validation", "test")}
    if job.task == MULTI_LABEL:
        search_each_finding(job, _finding_search(job, inputs, engine))
        return
    labels = {split: job.y(split) for split in ("train", "validation")}
    known = np.unique(labels["train"])
    earlier_loss = (job.published_facts() or {"validation_loss": np.inf})["validation_loss"]
    log = job.state / LOG_NAME
    earlier_trials = _records(log)
    # Rewrite the log without a line that an interruption left incomplete.
    log.write_text("".join(json.dumps(record) + "\n" for record in earlier_trials), encoding="utf-8")

    def on_better(model: Any, loss: float, trials: int, configuration: Dict[str, Any]) -> None:
        if loss >= earlier_loss:
            return
        scores = {
            split: all_columns(model.predict_proba(inputs[split]), known, job.classes)
            for split in ("validation", "test")
        }
        facts = {"engine": engine, "configuration": configuration, "validation_loss": loss}
        job.publish(scores, {**facts, "trials": len(earlier_trials) + trials})

    _, trials = _fit(job, inputs, labels, job.left(), on_better, log)
    if job.published_facts() is None:
        raise SearchError(_too_small(job))
    job.update_facts(trials=len(earlier_trials) + trials)


def _finding_search(job: AutoMLJob, inputs: Dict[str, np.ndarray], engine: str) -> Any:
    """Return the search of one finding, for `search_each_finding`."""

    def fit(
        train: np.ndarray, validation: np.ndarray, seconds: float, finding: str
    ) -> Tuple[Callable[[np.ndarray], np.ndarray], Dict[str, Any]]:
        facts: Dict[str, Any] = {"engine": engine}

        def on_better(model: Any, loss: float, trials: int, configuration: Dict[str, Any]) -> None:
            facts.update(configuration=configuration)

        print(finding, flush=True)
        fitted, facts["trials"] = _fit(job, inputs, {"train": train, "validation": validation}, seconds, on_better)
        if fitted is None:
            raise SearchError(_too_small(job))
        return lambda values: fitted.predict_proba(_scaled(job, values)), facts

    return fit


def _fit(  # noqa: PLR0917
    job: AutoMLJob,
    inputs: Dict[str, np.ndarray],
    labels: Dict[str, np.ndarray],
    seconds: float,
    on_better: OnBetter,
    log: Path | None = None,
) -> Tuple[Any, int]:
    """Run FLAML and return its ``AutoML``, or None if time was too short, and the number of trials."""
    from flaml.automl.automl import AutoML  # after `name`, which reports a missing installation

    validation = labels["validation"]
    known, targets = np.unique(labels["train"], return_inverse=True)
    if len(known) < 2:
        raise SearchError(f"train has only class {known[0]}: a search needs two or more")
    if seconds <= 0:
        return None, 0
    earlier_trials = _records(log) if log else []
    best, trials, max_trials = np.inf, 0, job.options.get("trials")

    def loss(_x: Any, _y: Any, model: Any, *rest: Any) -> Tuple[float, Dict[str, Any]]:
        """Score a trial; FLAML passes the configuration as the sixth item of `rest`."""
        nonlocal best, trials
        trials += 1
        scores = model.predict_proba(inputs["validation"])
        trial_loss = _loss(scores, validation, known) if np.isfinite(scores).all() else np.inf
        if trial_loss < best:
            best = trial_loss
            learner = type(model).__name__
            on_better(model, trial_loss, trials, {"learner": learner, **rest[5]})
            print(f"trial {trials}: {learner}, validation loss {best:.4f}", flush=True)
        return trial_loss, {}

    automl: Any = AutoML()  # type: ignore[no-untyped-call]
    automl.fit(
        inputs["train"],
        targets,
        X_val=inputs["validation"],
        y_val=np.searchsorted(known, validation).clip(0, len(known) - 1),
        metric=loss,
        task="classification",
        time_budget=seconds,
        # With a single trial FLAML would train without scoring.
        max_iter=max(2, max_trials - len(earlier_trials)) if max_trials else None,
        eval_method="holdout",
        retrain_full=False,
        skip_transform=True,
        n_jobs=job.cores,
        seed=job.seed,
        log_file_name=str(log) if log else "",
        log_type="all",
        append_log=True,
        starting_points=_starting_points(earlier_trials),
        verbose=0,
    )
    return automl if automl.best_estimator else None, trials


def _loss(scores: np.ndarray, labels: np.ndarray, known: np.ndarray) -> float:
    """Return 1 minus the mean AUC on validation, or the log loss if no class has an AUC.

    Args:
        scores: Scores of the known classes, shape (N, K).
        labels: Class ids, shape (N,).
        known: Class ids that occur in train, in the order of the columns of `scores`.
    """
    all_scores = all_columns(scores, known, int(max(known.max(), labels.max())) + 1)
    auc = mean_auc(labels, all_scores)
    if np.isfinite(auc):
        return 1 - auc
    return float(-np.log(np.maximum(all_scores[np.arange(len(labels)), labels], 1e-12)).mean())


def _records(log: Path) -> List[Dict[str, Any]]:
    """Return the trials in the log of an interrupted search."""
    records = []
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        try:
            record = json.loads(line)
        except ValueError:  # an incomplete line
            continue
        if "learner" in record:  # the other lines name the best trial
            records.append(record)
    return records


def _starting_points(records: List[Dict[str, Any]]) -> Any:
    """Return the best configuration of each learner so far; without any, FLAML uses its own."""
    best: Dict[str, Dict[str, Any]] = {}
    for record in records:
        best_record = best.get(record["learner"])
        if best_record is None or record["validation_loss"] < best_record["validation_loss"]:
            best[record["learner"]] = record
    return {learner: record["config"] for learner, record in best.items()} or "static"


def _inputs(job: AutoMLJob, split: str) -> np.ndarray:
    return _scaled(job, job.x(split))


def _scaled(job: AutoMLJob, values: np.ndarray) -> np.ndarray:
    """Scale pixels to 0..1 for the linear models; features are not changed. Returns float32."""
    values = values.astype(np.float32)
    return values / 255 if job.inputs == "pixels" else values


def _too_small(job: AutoMLJob) -> str:
    return f"a time budget of {job.seconds:g} s is too small for one trial: give more"


if __name__ == "__main__":
    main(search, name)
