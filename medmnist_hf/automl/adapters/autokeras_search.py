"""AutoKeras on images as they are: a search over convolutional networks and how they are trained; see job.py.

As published with MedMNIST: 20 trials of 20 epochs each, compared by their AUC on validation; a volume is an image
whose channels are its last axis. Unlike there, that AUC is the mean over the classes, and the model is the best epoch
of the best trial: AutoKeras would train the best configuration once more, and nothing would have compared that model.
None is fitted to validation. A trial has a tenth of the budget to train in, so that one large network does not take
all of it. What a search goes on from are KerasTuner's own records, in JSON and HDF5.
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
"""As published; a job may tell other numbers as its options ``trials`` and ``epochs``."""

TRIAL = 0.1
"""Share of the budget after which the training of a trial ends, with its epoch as it is."""

AT_THE_END = 0.1
"""Share of the budget that is kept for scoring what a trial has by then."""

PROJECT = "autokeras"


def name() -> str:
    """Engine and version; an `ImportError` if it is not installed."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # three times as fast as JAX on a processor
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if os.environ["KERAS_BACKEND"] == "tensorflow":
        importlib.import_module("tensorboard")  # without it KerasTuner's trials fail there, one by one
    return f"AutoKeras {importlib.import_module('autokeras').__version__}"


def search(job: AutoMLJob) -> None:
    """Search as the job says, and publish each trial that is better than all before."""
    warnings.simplefilter("ignore")  # of Keras about AutoKeras's use of it
    for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ[variable] = str(job.cores)
    engine = name()
    import keras  # after `name`

    # KerasTuner would print the traceback of each trial that fails; it keeps them with its records as well.
    importlib.import_module("keras_tuner.src.config").DEBUG = False  # type: ignore[attr-defined]
    keras.utils.set_random_seed(job.seed)
    train, validation = ((job.x(split), _targets(job, split)) for split in ("train", "validation"))
    if job.task != MULTI_LABEL and len(np.unique(train[1], axis=0)) < 2:
        raise SearchError("train has one class alone: a search needs two or more")
    classifier = _classifier(job, engine)
    _end_in_time(job)
    classifier.fit(
        *train,
        validation_data=validation,
        epochs=int(job.options.get("epochs", EPOCHS)),
        # AutoKeras's own rule for its trials. Where it is not told, it fits the best once more without it.
        callbacks=[keras.callbacks.EarlyStopping(patience=10, min_delta=1e-4)],
        verbose=0,
    )


def _classifier(job: AutoMLJob, engine: str) -> Any:
    """AutoKeras's own object, with the trials of a search that was broken off if there are any."""
    import autokeras
    import keras
    import keras_tuner

    trials = int(job.options.get("trials", TRIALS))
    tuner, several = _tuner(job, engine), _several(job)

    def classifier() -> Any:
        return autokeras.ImageClassifier(
            num_classes=job.classes,
            multi_label=job.task == MULTI_LABEL,
            metrics=[keras.metrics.AUC(name="auc", multi_label=several, num_labels=job.classes if several else None)],
            objective=keras_tuner.Objective("val_auc", "max"),
            max_trials=trials,
            directory=str(job.state),
            project_name=PROJECT,
            tuner=tuner,
            seed=job.seed,
        )

    try:
        made = classifier()
    except (OSError, ValueError, KeyError, RuntimeError):
        print("what is left of an earlier search is damaged: it starts anew", flush=True)
        shutil.rmtree(str(job.state / PROJECT))
        made = classifier()
    made.tuner.oracle.max_consecutive_failed_trials = trials  # without the Hub, every pretrained one fails
    return made


def _tuner(job: AutoMLJob, engine: str) -> Any:
    """AutoKeras's tuner of images, which here keeps the budget, publishes, and tells of its trials."""
    from autokeras.tuners.task_specific import ImageClassifierTuner

    class Tuner(ImageClassifierTuner):  # type: ignore[misc]
        until = 0.0

        def on_search_begin(self) -> None:
            if self._completed():  # the search goes on; it may have been broken off before it published the best
                self._publish()

        def pre_create_trial(self) -> None:
            if job.left() < AT_THE_END * job.seconds:
                self.oracle.max_trials = len(self.oracle.trials)
                if not self.oracle.max_trials:
                    raise SearchError(f"a time budget of {job.seconds:g} s is too small for one trial: give more")

        def on_trial_begin(self, trial: Any) -> None:
            super().on_trial_begin(trial)
            self.until = time.monotonic() + min(TRIAL * job.seconds, job.left() - AT_THE_END * job.seconds)

        def on_batch_end(self, trial: Any, model: Any, batch: int, logs: Any = None) -> None:
            if time.monotonic() > self.until:
                model.stop_training = True

        def on_trial_end(self, trial: Any) -> None:
            super().on_trial_end(trial)
            ended = self.oracle.get_trial(trial.trial_id)
            succeeded = ended.status == "COMPLETED"
            outcome = f"{ended.score:.4f} on validation" if succeeded else f"failed: {_fault(ended)}"
            block = ended.hyperparameters.values.get("image_block_1/block_type", "network")
            print(f"trial {len(self.oracle.end_order)}: {block}, {outcome}, {job.left():.0f} s left", flush=True)
            if succeeded and self.oracle.get_best_trials(1)[0] is ended:
                self._publish()
            elif self._completed():
                job.note(**self._counts())

        def on_search_end(self) -> None:
            if not self._completed():
                faults = [_fault(trial) for trial in self.oracle.trials.values()]
                raise SearchError(f"none of {len(faults)} trials succeeded, the last for {faults[-1]}")

        def _completed(self) -> list[Any]:
            return [trial for trial in self.oracle.trials.values() if trial.status == "COMPLETED"]

        def _counts(self) -> dict[str, int]:
            ended = len(self.oracle.end_order)
            return {"trials": ended, "failed_trials": ended - len(self._completed())}

        def _publish(self) -> None:
            best = self.oracle.get_best_trials(1)[0]
            model = self.load_model(best)
            scores = {split: _scores(model.predict(job.x(split), verbose=0)) for split in ("validation", "test")}
            told = {
                "engine": engine,
                "configuration": best.hyperparameters.values,
                "best_epoch": best.best_step + 1,
                "parameters": model.count_params(),
                "validation_auc": best.score,
            }
            if job.x("test").ndim == 4 and job.x("test").shape[-1] != 3:
                told["inputs"] = "volumes, as images whose channels are the last axis"
            job.publish(scores, {**told, **self._counts()})

    return Tuner


def _fault(trial: Any) -> str:
    """The last line of the traceback that KerasTuner keeps of a trial that failed."""
    return str(trial.message or trial.status).strip().rpartition("\n")[2]


def _end_in_time(job: AutoMLJob) -> None:
    """Have SIGINT or SIGTERM end this process, and the end of the budget once there is something to keep.

    What there is to keep is in files. A thread sees to it, for a step of TensorFlow can take minutes, and Python deals
    with signals only after it.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach())
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda *_: None)

    def watch() -> None:
        while True:
            if select.select([reader], [], [], 0.5)[0]:
                os._exit(STOPPED)
            if job.left() <= 0 and (job.folder / BEST_NAME).exists():
                os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def _several(job: AutoMLJob) -> bool:
    """Whether a model has a score for each class or finding; of two classes it scores the second alone."""
    return job.task == MULTI_LABEL or job.classes > 2


def _targets(job: AutoMLJob, split: str) -> np.ndarray:
    """Labels as AutoKeras wants them, whatever classes a split shows: float32 (N, K), or (N, 1) for two classes."""
    labels = job.y(split)
    if job.task == MULTI_LABEL:
        return labels.astype(np.float32)
    return np.eye(job.classes, dtype=np.float32)[labels] if _several(job) else labels[:, None].astype(np.float32)


def _scores(outputs: np.ndarray) -> np.ndarray:
    """Outputs of a model, softmax or sigmoid, as probabilities of all classes or findings."""
    return np.concatenate([1 - outputs, outputs], 1) if outputs.shape[1] == 1 else outputs


if __name__ == "__main__":
    main(search, name)
