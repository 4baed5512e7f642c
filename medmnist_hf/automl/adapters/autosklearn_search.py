"""auto-sklearn on flattened pixels or on features: an ensemble of pipelines. See job.py for how it is run.

As in the published MedMNIST runs, a trial has a tenth of the time budget and at most 9,216 MB of memory. Unlike there,
trials are fitted to train and compared by validation AUC; the published runs split train internally and compared
accuracies. Nothing is fitted again with validation. Findings are a multi-label task, which auto-sklearn supports.
"""

from __future__ import annotations

import copy
import importlib
import re
import shutil
import signal
import sys
import time
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

import numpy as np

if TYPE_CHECKING:
    from medmnist_hf.automl.adapters.auc import mean_auc
    from medmnist_hf.automl.adapters.job import MULTI_LABEL, AutoMLJob, SearchError, all_columns, main
else:
    from auc import mean_auc
    from job import MULTI_LABEL, AutoMLJob, SearchError, all_columns, main

MEMORY = 9216
"""Default of the option ``memory``, the megabytes of a trial, as published."""

TRIAL_SHARE = 0.1
"""Fraction of the budget for one trial, as published."""

MIN_SECONDS = 30
"""Shortest search of auto-sklearn, in seconds."""

FINAL_SHARE = 0.05
"""Fraction of the budget reserved for loading the ensemble and for its scores."""

PAUSE_FACTOR = 10
"""Pause after publishing, as a multiple of the time it took, so that publishing uses at most a tenth of the time."""

SILENT = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"nowhere": {"class": "logging.NullHandler"}},
    "root": {"handlers": ["nowhere"]},
    "loggers": {"distributed": {"handlers": ["nowhere"], "propagate": False}},
}
"""Logging configuration that silences auto-sklearn and dask, with which it runs trials; we print each trial."""

Members = List[Tuple[float, Any]]
"""Fitted pipelines with their weights in the ensemble."""


def name() -> str:
    """Return engine and version; raises `ImportError` if it is not installed."""
    importlib.import_module("autosklearn.classification")
    return f"auto-sklearn {importlib.import_module('autosklearn').__version__}"


def search(job: AutoMLJob) -> None:
    """Run the search of a job and publish the ensemble as it improves."""
    warnings.simplefilter("ignore")  # warnings of libraries about auto-sklearn's use of them
    _Search(job).run()


class _Sys:
    """Replacement for `sys` in auto-sklearn's `preload_modules`, with a copy of the modules."""

    @property
    def modules(self) -> Dict[str, Any]:
        return dict(sys.modules)


def fix_import_race() -> None:
    """Fix a race in auto-sklearn 0.15: it fails if a thread imports a module while another iterates `sys.modules`."""
    importlib.import_module("autosklearn.util.parallel").sys = _Sys()  # type: ignore[attr-defined]


class _Search:
    """A search with auto-sklearn.

    Attributes:
        engine: auto-sklearn's classifier.
        memory: Megabytes for one trial.
        outcomes: Outcome -> number of trials.
        best: Highest validation AUC of a trial so far.
        next_publish: Time before which nothing is published.
        last_ensemble: Identifiers and weights of the ensemble that was loaded last.
        stopped: Whether a signal has been received.
    """

    def __init__(self, job: AutoMLJob) -> None:
        from autosklearn.classification import AutoSklearnClassifier  # after `name`
        from autosklearn.metrics import make_scorer, roc_auc
        from sklearn.model_selection import PredefinedSplit

        fix_import_race()
        self.job = job
        self.targets = _Targets(job)
        self.inputs = {split: job.x(split) for split in ("validation", "test")}
        self.x = np.concatenate([job.x("train"), self.inputs["validation"]])
        self.memory = _memory(job)
        self.outcomes: Counter[str] = Counter()
        self.best = self.next_publish = 0.0
        self.last_ensemble: Any = None
        self.stopped = False
        seconds = int(job.left() - FINAL_SHARE * job.seconds)
        if seconds < MIN_SECONDS:
            raise SearchError(
                f"a time budget of {job.seconds:g} s leaves {max(seconds, 0)} s for trials and "
                f"auto-sklearn needs {MIN_SECONDS} s: give more"
            )
        fold = np.zeros(len(self.x), int)
        fold[: self.targets.train_rows] = -1
        shutil.rmtree(str(job.state), ignore_errors=True)  # auto-sklearn cannot resume from it
        self.engine = AutoSklearnClassifier(
            time_left_for_this_task=seconds,
            per_run_time_limit=max(int(TRIAL_SHARE * job.seconds), 1),
            memory_limit=self.memory,
            resampling_strategy=PredefinedSplit(fold),
            dataset_compression=False,  # it drops rows, which would no longer match the split
            metric=roc_auc if self.targets.binary else make_scorer("mean_auc", mean_auc, needs_proba=True),
            seed=job.seed,
            n_jobs=job.cores,
            tmp_folder=str(job.state.resolve() / "auto-sklearn"),
            logging_config=copy.deepcopy(SILENT),  # auto-sklearn modifies it
            delete_tmp_folder_after_terminate=False,  # the ensemble of an interrupted search is loaded from it
            get_trials_callback=self._after_a_trial,
        )

    def run(self) -> None:
        """Search until the budget ends or a signal comes, and publish the ensemble.

        Raises:
            SearchError: There is not enough memory for a trial, or no trial was better than chance.
            KeyboardInterrupt: A signal was received; the last ensemble is published.
        """
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_number, self._stop)
        try:
            self._fit()
            self._publish(self.engine.get_models_with_weights())
        except BaseException as error:
            if not self.stopped:
                raise
            self._publish(self._new_ensemble())
            raise KeyboardInterrupt from error  # auto-sklearn's cleanup may have failed with another error
        finally:
            shutil.rmtree(str(self.job.state), ignore_errors=True)

    def _fit(self) -> None:
        try:
            self.engine.fit(self.x, self.targets.y)
        except ValueError as error:  # the message may be in a tuple
            message = " ".join(np.ravel(error.args)).strip()
            raise SearchError(f"auto-sklearn failed with {self.memory} MB of memory per trial: {message}") from error
        if not any(_hyperparameters(model) for _, model in self.engine.get_models_with_weights()):
            counts = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.items()) or "none ended"
            raise SearchError(f"no trial was better than chance within {self.job.seconds:g} s ({counts}): give more")

    def _stop(self, _signal: int, _frame: Any) -> None:
        """Kill running trials, for which auto-sklearn would wait, and end the search."""
        import psutil  # comes with distributed

        self.stopped = True
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_number, signal.SIG_IGN)  # do not interrupt publishing
        process = psutil.Process()
        helper = re.compile("forkserver|resource_tracker")
        helpers = [child for child in process.children() if helper.search(" ".join(child.cmdline()))]
        for child in process.children(recursive=True):
            if child not in helpers:
                child.kill()
        raise KeyboardInterrupt

    def _after_a_trial(self, _smbo: Any, trial: Any, result: Any, _left: float) -> None:
        if self.stopped:  # with one core, the interrupt is attributed to the trial that was running
            raise KeyboardInterrupt
        outcome = result.status.name.lower()
        self.outcomes[outcome] += 1
        if outcome == "success":
            auc = 1 - result.cost
            self.best = max(auc, self.best)
            outcome = f"{auc:.4f} on validation, best {self.best:.4f}"
        number, kind = sum(self.outcomes.values()), trial.config["classifier:__choice__"]
        print(f"trial {number}: {kind}, {outcome}, {max(self.job.left(), 0):.0f} s left", flush=True)
        start = time.monotonic()
        if start >= self.next_publish:
            self._publish(self._new_ensemble())
            self.next_publish = time.monotonic() + PAUSE_FACTOR * (time.monotonic() - start)

    def _new_ensemble(self) -> Members:
        """Return the latest ensemble of the running search; empty if there is none, or only an old or a dummy one."""
        backend = self.engine.automl_ and self.engine.automl_._backend
        ensemble = backend and backend.load_ensemble(self.job.seed)
        if not ensemble or ensemble.get_identifiers_with_weights() == self.last_ensemble:
            return []
        try:
            models = backend.load_models_by_identifiers(ensemble.get_selected_model_identifiers())
        except FileNotFoundError:  # a model has just been replaced by a better one
            return []
        self.last_ensemble = ensemble.get_identifiers_with_weights()
        members: Members = ensemble.get_models_with_weights(models)
        return members if any(_hyperparameters(model) for _, model in members) else []

    def _publish(self, members: Members) -> None:
        """Publish the scores of an ensemble, the weighted mean over its members."""
        if not members:
            return
        scores = {}
        for split, x in self.inputs.items():  # copy, since some pipelines work in place
            mean = sum(weight * model.predict_proba(x.copy()) for weight, model in members)
            scores[split] = self.targets.all_scores(np.clip(mean, 0, 1))
        facts = {
            "engine": name(),
            "trials": sum(self.outcomes.values()),
            "outcomes": dict(self.outcomes),
            "configuration": [{"weight": weight, **_hyperparameters(model)} for weight, model in members],
        }
        self.job.publish(scores, facts)


class _Targets:
    """Targets of the search: the classes that occur in train, or the findings that vary in it.

    Attributes:
        y: Labels of train followed by those of validation: class ids (N,), or findings (N, M) of 0 and 1. If only one
            finding varies, it is a binary task, (N,).
        train_rows: Number of rows of train.
        binary: Whether there are two classes.
    """

    def __init__(self, job: AutoMLJob) -> None:
        train, validation = job.y("train"), job.y("validation")
        self.train_rows = len(train)
        self.y = np.concatenate([train, validation])
        self._constant = np.zeros(job.classes)
        if job.task == MULTI_LABEL:
            self._known = np.flatnonzero(train.min(0) != train.max(0))
            self._constant = train[0].astype(np.float64)
            self.y = self.y[:, self._known] if len(self._known) > 1 else self.y[:, self._known].ravel()
        else:
            self._known = np.unique(train)
        for split, labels in (("train", self.y[: len(train)]), ("validation", self.y[len(train) :])):
            if not labels.size or not (labels.min(0) != labels.max(0)).any():
                raise SearchError(f"all labels of {split} are the same: AUC is undefined")
        self.binary = self.y.ndim == 1 and len(np.unique(self.y)) == 2

    def all_scores(self, scores: np.ndarray) -> np.ndarray:
        """Expand a model's scores to all classes or findings, float64 (N, K).

        A class that train lacks scores 0; a finding that is constant in train scores that value.
        """
        expanded = all_columns(scores[:, -len(self._known) :], self._known, len(self._constant))
        missing = np.setdiff1d(np.arange(len(self._constant)), self._known)
        expanded[:, missing] = self._constant[missing]
        return expanded


def _hyperparameters(model: Any) -> Dict[str, Any]:
    """Return the configuration of a pipeline; empty for the dummy that a search starts with."""
    return dict(model.config.get_dictionary()) if hasattr(model.config, "get_dictionary") else {}


def _memory(job: AutoMLJob) -> int:
    """Return the megabytes for one trial: the option or the default, or less if free memory per core is lower."""
    import psutil  # comes with distributed
    from distributed.system import MEMORY_LIMIT  # respects cgroups

    free = min(psutil.virtual_memory().available, MEMORY_LIMIT) // 2**20
    return int(min(job.options.get("memory", MEMORY), free // job.cores))


if __name__ == "__main__":
    main(search, name)
