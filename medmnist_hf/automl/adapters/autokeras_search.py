"""AutoKeras on images: a search over convolutional networks and their training. See job.py.

As in the published MedMNIST runs, there are 20 trials of 20 epochs each, compared by validation AUC, and a volume is
an image with its last axis as channels. Unlike there, the AUC is the mean over the classes, and the result is the best
epoch of the best trial: AutoKeras would train the best configuration again and not compare the new model. No model is
fitted to validation. A trial may train for a tenth of the budget, so that one large network does not use all of it. A
search resumes from KerasTuner's own records, in JSON and HDF5.
"""

from __future__ import annotations

import importlib
import os
import select
import shutil
import signal
import socket
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from medmnist_hf.automl.adapters.job import BEST_NAME, MULTI_LABEL, STOPPED, AutoMLJob, SearchError, main
else:
    from job import BEST_NAME, MULTI_LABEL, STOPPED, AutoMLJob, SearchError, main

TRIALS = EPOCHS = 20
"""Defaults of the options ``trials`` and ``epochs``, as published."""

TRIAL_SHARE = 0.1
"""Fraction of the budget after which the training of a trial stops, even within an epoch."""

FINAL_SHARE = 0.1
"""Fraction of the budget reserved for scoring the last trial."""

PROJECT = "autokeras"


def name() -> str:
    """Return engine and version; raises `ImportError` if it is not installed."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # three times as fast as JAX on a CPU
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if os.environ["KERAS_BACKEND"] == "tensorflow":
        importlib.import_module("tensorboard")  # without it every trial of KerasTuner fails
    return f"AutoKeras {importlib.import_module('autokeras').__version__}"


def search(job: AutoMLJob) -> None:
    """Run the search of a job and publish each new best trial."""
    warnings.simplefilter("ignore")  # Keras's warnings about AutoKeras's use of it
    for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ[variable] = str(job.cores)
    engine = name()
    import keras  # after `name`

    # Otherwise KerasTuner prints the traceback of each failed trial; its records hold them too.
    importlib.import_module("keras_tuner.src.config").DEBUG = False  # type: ignore[attr-defined]
    keras.utils.set_random_seed(job.seed)
    train, validation = ((job.x(split), _targets(job, split)) for split in ("train", "validation"))
    if job.task != MULTI_LABEL and len(np.unique(train[1], axis=0)) < 2:
        raise SearchError("train has only one class: a search needs two or more")
    classifier = _classifier(job, engine)
    _watch_budget_and_signals(job)
    classifier.fit(
        *train,
        validation_data=validation,
        epochs=int(job.options.get("epochs", EPOCHS)),
        # AutoKeras's own early stopping. If it is not passed explicitly, the best model is fitted again without it.
        callbacks=[keras.callbacks.EarlyStopping(patience=10, min_delta=1e-4)],
        verbose=0,
    )


def _classifier(job: AutoMLJob, engine: str) -> Any:
    """Return AutoKeras's classifier, with the trials of an interrupted search if there are any."""
    import autokeras
    import keras
    import keras_tuner

    trials = int(job.options.get("trials", TRIALS))
    tuner, per_class = _tuner(job, engine), _scores_per_class(job)

    def create() -> Any:
        auc = keras.metrics.AUC(name="auc", multi_label=per_class, num_labels=job.classes if per_class else None)
        return autokeras.ImageClassifier(
            num_classes=job.classes,
            multi_label=job.task == MULTI_LABEL,
            metrics=[auc],
            objective=keras_tuner.Objective("val_auc", "max"),
            max_trials=trials,
            directory=str(job.state),
            project_name=PROJECT,
            tuner=tuner,
            seed=job.seed,
        )

    try:
        classifier = create()
    except (OSError, ValueError, KeyError, RuntimeError):
        print("the records of the earlier search are damaged: it starts anew", flush=True)
        shutil.rmtree(str(job.state / PROJECT))
        classifier = create()
    classifier.tuner.oracle.max_consecutive_failed_trials = trials  # without the Hub, all pretrained networks fail
    return classifier


def _tuner(job: AutoMLJob, engine: str) -> Any:
    """Return a subclass of AutoKeras's image tuner that keeps the budget, publishes models and prints trials."""
    from autokeras.tuners.task_specific import ImageClassifierTuner

    class Tuner(ImageClassifierTuner):  # type: ignore[misc]
        deadline = 0.0

        def on_search_begin(self) -> None:
            if self._completed():  # resumed; the search may have been interrupted before it published its best model
                self._publish()

        def pre_create_trial(self) -> None:
            if job.left() < FINAL_SHARE * job.seconds:
                self.oracle.max_trials = len(self.oracle.trials)
                if not self.oracle.max_trials:
                    raise SearchError(f"a time budget of {job.seconds:g} s is too small for one trial: give more")

        def on_trial_begin(self, trial: Any) -> None:
            super().on_trial_begin(trial)
            seconds = min(TRIAL_SHARE * job.seconds, job.left() - FINAL_SHARE * job.seconds)
            self.deadline = time.monotonic() + seconds

        def on_batch_end(self, trial: Any, model: Any, batch: int, logs: Any = None) -> None:
            if time.monotonic() > self.deadline:
                model.stop_training = True

        def on_trial_end(self, trial: Any) -> None:
            super().on_trial_end(trial)
            updated = self.oracle.get_trial(trial.trial_id)
            succeeded = updated.status == "COMPLETED"
            outcome = f"{updated.score:.4f} on validation" if succeeded else f"failed: {_error_of(updated)}"
            block = updated.hyperparameters.values.get("image_block_1/block_type", "network")
            print(f"trial {len(self.oracle.end_order)}: {block}, {outcome}, {job.left():.0f} s left", flush=True)
            if succeeded and self.oracle.get_best_trials(1)[0] is updated:
                self._publish()
            elif self._completed():
                job.update_facts(**self._counts())

        def on_search_end(self) -> None:
            if not self._completed():
                errors = [_error_of(trial) for trial in self.oracle.trials.values()]
                raise SearchError(f"all {len(errors)} trials failed, the last one with {errors[-1]}")

        def _completed(self) -> list[Any]:
            return [trial for trial in self.oracle.trials.values() if trial.status == "COMPLETED"]

        def _counts(self) -> dict[str, int]:
            ended = len(self.oracle.end_order)
            return {"trials": ended, "failed_trials": ended - len(self._completed())}

        def _publish(self) -> None:
            best = self.oracle.get_best_trials(1)[0]
            model = self.load_model(best)
            scores = {split: _scores(model.predict(job.x(split), verbose=0)) for split in ("validation", "test")}
            facts = {
                "engine": engine,
                "configuration": best.hyperparameters.values,
                "best_epoch": best.best_step + 1,
                "parameters": model.count_params(),
                "validation_auc": best.score,
            }
            if job.x("test").ndim == 4 and job.x("test").shape[-1] != 3:
                facts["inputs"] = "volumes, as images whose channels are the last axis"
            job.publish(scores, {**facts, **self._counts()})

    return Tuner


def _error_of(trial: Any) -> str:
    """Return the last line of the traceback that KerasTuner records for a failed trial."""
    return str(trial.message or trial.status).strip().rpartition("\n")[2]


def _watch_budget_and_signals(job: AutoMLJob) -> None:
    """End this process on SIGINT or SIGTERM, or when the budget is used up and a model has been published.

    All results are in files. A thread watches because a step of TensorFlow can take minutes, and Python handles
    signals only after it.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach())
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, lambda *_: None)

    def watch() -> None:
        while True:
            if select.select([reader], [], [], 0.5)[0]:
                os._exit(STOPPED)
            if job.left() <= 0 and (job.folder / BEST_NAME).exists():
                os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def _scores_per_class(job: AutoMLJob) -> bool:
    """Return whether a model scores each class or finding; for two classes it scores only the second."""
    return job.task == MULTI_LABEL or job.classes > 2


def _targets(job: AutoMLJob, split: str) -> np.ndarray:
    """Return labels as AutoKeras expects them for all classes: float32 (N, K), or (N, 1) for two classes."""
    labels = job.y(split)
    if job.task == MULTI_LABEL:
        return labels.astype(np.float32)
    return (
        np.eye(job.classes, dtype=np.float32)[labels] if _scores_per_class(job) else labels[:, None].astype(np.float32)
    )


def _scores(outputs: np.ndarray) -> np.ndarray:
    """Convert a model's outputs, softmax or sigmoid, to probabilities of all classes or findings."""
    return np.concatenate([1 - outputs, outputs], 1) if outputs.shape[1] == 1 else outputs


if __name__ == "__main__":
    main(search, name)
