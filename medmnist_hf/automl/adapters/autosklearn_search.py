"""auto-sklearn on flattened pixels or on features: an ensemble of pipelines; see job.py for how it is run.

As published with MedMNIST: one time budget for all, a tenth of it for a trial, 9,216 MB at most for a trial. Unlike
there, trials fit train and are compared by their AUC on validation; the published runs split train by themselves and
compared accuracies. Nothing is fitted again with validation. Findings are one multi-label task, which it knows.
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
"""Megabytes that a trial may ask for, as published; a job may tell another number as its option ``memory``."""

TRIAL = 0.1
"""Share of the budget for one trial, as published."""

SHORTEST = 30
"""Seconds that auto-sklearn searches at least."""

AT_THE_END = 0.05
"""Share of the budget that is kept for loading the ensemble and for its scores."""

PAUSE = 10
"""After publishing, this many times as long as that took goes by before the next: a tenth of the time at most."""

SILENT = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"nowhere": {"class": "logging.NullHandler"}},
    "root": {"handlers": ["nowhere"]},
    "loggers": {"distributed": {"handlers": ["nowhere"], "propagate": False}},
}
"""Its log, and that of dask, by which it runs trials: how a trial ended is told by us, the rest is no news."""

Members = List[Tuple[float, Any]]
"""Weights, and the fitted pipelines that they weigh."""


def name() -> str:
    """Engine and version; an `ImportError` if it is not installed."""
    importlib.import_module("autosklearn.classification")
    return f"auto-sklearn {importlib.import_module('autosklearn').__version__}"


def search(job: AutoMLJob) -> None:
    """Search as the job says, and publish what the ensemble becomes."""
    warnings.simplefilter("ignore")  # of the libraries about auto-sklearn's use of them
    _Search(job).run()


class _Sys:
    """What auto-sklearn's `preload_modules` takes for `sys`: modules as a copy, as a thread may import meanwhile."""

    @property
    def modules(self) -> Dict[str, Any]:
        return dict(sys.modules)


def let_threads_import() -> None:
    """Mend a race of auto-sklearn 0.15: it walks `sys.modules` in one thread while another imports, and gives up."""
    importlib.import_module("autosklearn.util.parallel").sys = _Sys()  # type: ignore[attr-defined]


class _Search:
    """One search.

    Attributes:
        engine: auto-sklearn's own object.
        memory: Megabytes for one trial.
        outcomes: How many trials ended how.
        best: Highest validation AUC of a trial so far.
        resting_until: Time before which nothing is published.
        known: The ensemble that was looked at last.
        stopped: Whether a signal has come.
    """

    def __init__(self, job: AutoMLJob) -> None:
        from autosklearn.classification import AutoSklearnClassifier  # after `name`
        from autosklearn.metrics import make_scorer, roc_auc
        from sklearn.model_selection import PredefinedSplit

        let_threads_import()
        self.job = job
        self.targets = _Targets(job)
        self.inputs = {split: job.x(split) for split in ("validation", "test")}
        self.x = np.concatenate([job.x("train"), self.inputs["validation"]])
        self.memory = _memory(job)
        self.outcomes: Counter[str] = Counter()
        self.best = self.resting_until = 0.0
        self.known: Any = None
        self.stopped = False
        seconds = int(job.left() - AT_THE_END * job.seconds)
        if seconds < SHORTEST:
            raise SearchError(
                f"a time budget of {job.seconds:g} s leaves {max(seconds, 0)} s for trials and "
                f"auto-sklearn needs {SHORTEST} s: give more"
            )
        fold = np.zeros(len(self.x), int)
        fold[: self.targets.rows_of_train] = -1
        shutil.rmtree(str(job.state), ignore_errors=True)  # auto-sklearn cannot go on from it
        self.engine = AutoSklearnClassifier(
            time_left_for_this_task=seconds,
            per_run_time_limit=max(int(TRIAL * job.seconds), 1),
            memory_limit=self.memory,
            resampling_strategy=PredefinedSplit(fold),
            dataset_compression=False,  # it leaves out rows, and the split counts them
            metric=roc_auc if self.targets.binary else make_scorer("mean_auc", mean_auc, needs_proba=True),
            seed=job.seed,
            n_jobs=job.cores,
            tmp_folder=str(job.state.resolve() / "auto-sklearn"),
            logging_config=copy.deepcopy(SILENT),  # it adds to it
            delete_tmp_folder_after_terminate=False,  # what an interrupted search has is there
            get_trials_callback=self._after_a_trial,
        )

    def run(self) -> None:
        """Search until the budget ends or a signal comes, and publish the ensemble.

        Raises:
            SearchError: The machine has no memory for a trial, or none was better than a guess.
            KeyboardInterrupt: A signal came; the last ensemble is published.
        """
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, self._stop)
        try:
            self._fit()
            self._publish(self.engine.get_models_with_weights())
        except BaseException as error:
            if not self.stopped:
                raise
            self._publish(self._so_far())
            raise KeyboardInterrupt from error  # its cleaning up may fail half-way
        finally:
            shutil.rmtree(str(self.job.state), ignore_errors=True)

    def _fit(self) -> None:
        try:
            self.engine.fit(self.x, self.targets.y)
        except ValueError as error:  # its words may come in a tuple
            words = " ".join(np.ravel(error.args)).strip()
            raise SearchError(f"it gave up, with {self.memory} MB of memory for a trial: {words}") from error
        if not any(_hyperparameters(model) for _, model in self.engine.get_models_with_weights()):
            counts = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.items()) or "none ended"
            raise SearchError(f"no trial was better than a guess within {self.job.seconds:g} s ({counts}): give more")

    def _stop(self, _signal: int, _frame: Any) -> None:
        """End the trials that still run, for which auto-sklearn would wait, and then the search."""
        import psutil  # comes with distributed

        self.stopped = True
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, signal.SIG_IGN)  # what comes next is to be published whole
        mine = psutil.Process()
        helpers = [one for one in mine.children() if re.search("forkserver|resource_tracker", " ".join(one.cmdline()))]
        for child in mine.children(recursive=True):
            if child not in helpers:
                child.kill()
        raise KeyboardInterrupt

    def _after_a_trial(self, _smbo: Any, trial: Any, result: Any, _left: float) -> None:
        if self.stopped:  # what waits for a trial, with one core, takes the interrupt for that trial's
            raise KeyboardInterrupt
        outcome = result.status.name.lower()
        self.outcomes[outcome] += 1
        if outcome == "success":
            auc = 1 - result.cost
            self.best = max(auc, self.best)
            outcome = f"{auc:.4f} on validation, best {self.best:.4f}"
        number, kind = sum(self.outcomes.values()), trial.config["classifier:__choice__"]
        print(f"trial {number}: {kind}, {outcome}, {max(self.job.left(), 0):.0f} s left", flush=True)
        begun = time.monotonic()
        if begun >= self.resting_until:
            self._publish(self._so_far())
            self.resting_until = time.monotonic() + PAUSE * (time.monotonic() - begun)

    def _so_far(self) -> Members:
        """The ensemble that was built last in a search that goes on; empty for none, a known or a dummy one."""
        backend = self.engine.automl_ and self.engine.automl_._backend
        ensemble = backend and backend.load_ensemble(self.job.seed)
        if not ensemble or ensemble.get_identifiers_with_weights() == self.known:
            return []
        try:
            models = backend.load_models_by_identifiers(ensemble.get_selected_model_identifiers())
        except FileNotFoundError:  # one has just been given up for a better one
            return []
        self.known = ensemble.get_identifiers_with_weights()
        members: Members = ensemble.get_models_with_weights(models)
        return members if any(_hyperparameters(model) for _, model in members) else []

    def _publish(self, members: Members) -> None:
        """Leave the scores of an ensemble: the weighted mean of those of its members."""
        if not members:
            return
        scores = {}
        for split, x in self.inputs.items():  # a copy for each: some steps of pipelines work in place
            mean = sum(weight * model.predict_proba(x.copy()) for weight, model in members)
            scores[split] = self.targets.of_all(np.clip(mean, 0, 1))
        found = {
            "engine": name(),
            "trials": sum(self.outcomes.values()),
            "outcomes": dict(self.outcomes),
            "configuration": [{"weight": weight, **_hyperparameters(model)} for weight, model in members],
        }
        self.job.publish(scores, found)


class _Targets:
    """What there is to learn: the classes that train shows, or the findings that differ within it.

    Attributes:
        y: Labels of train, then those of validation: class ids (N,), or findings (N, M) of 0 and 1. A single finding
            that differs is a binary task, (N,).
        rows_of_train: How many of them are those of train.
        binary: Whether there are two classes.
    """

    def __init__(self, job: AutoMLJob) -> None:
        train, validation = job.y("train"), job.y("validation")
        self.rows_of_train = len(train)
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
                raise SearchError(f"all labels of {split} are the same: there is no AUC to search by")
        self.binary = self.y.ndim == 1 and len(np.unique(self.y)) == 2

    def of_all(self, scores: np.ndarray) -> np.ndarray:
        """Scores of a model -> those of all classes or findings, float64 (N, K).

        A class that train never shows has 0; a finding that is the same in all of train has that.
        """
        whole = all_columns(scores[:, -len(self._known) :], self._known, len(self._constant))
        rest = np.setdiff1d(np.arange(len(self._constant)), self._known)
        whole[:, rest] = self._constant[rest]
        return whole


def _hyperparameters(model: Any) -> Dict[str, Any]:
    """The configuration of a pipeline; empty for the dummy that a search begins with."""
    return dict(model.config.get_dictionary()) if hasattr(model.config, "get_dictionary") else {}


def _memory(job: AutoMLJob) -> int:
    """Megabytes for one trial: as told or published, or an even share of what is free where that is less."""
    import psutil  # comes with distributed
    from distributed.system import MEMORY_LIMIT  # what a control group leaves

    free = min(psutil.virtual_memory().available, MEMORY_LIMIT) // 2**20
    return int(min(job.options.get("memory", MEMORY), free // job.cores))


if __name__ == "__main__":
    main(search, name)
