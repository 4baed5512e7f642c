"""The `evaluate.Metric` of MedMNIST: scores rows passed to `compute`, and rows added before once they are joined.

A batch is checked and converted to a canonical form (class ids or multi-hot rows, float64 scores), then passed to
`evaluate`, which handles Arrow files, locks and the synchronization of processes.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import evaluate
import numpy as np
from datasets import Features, List, Value

from medmnist_hf.array_types import Array
from medmnist_hf.catalog import Task
from medmnist_hf.errors import MedMNISTError, ScoreError, counted, first_line
from medmnist_hf.evaluate_module.report import MetricConfig, check_options, decision_accuracy, report, resolve
from medmnist_hf.scoring.inputs import is_score_table, plain
from medmnist_hf.scoring.predictions import check

REFERENCES: Final = "references"
SCORES: Final = "prediction_scores"


def features_of(config: MetricConfig) -> Features:
    """Arrow types of the rows: class ids (multi-hot rows if multi-label) and float64 scores."""
    truth = List(Value("uint8")) if config.task is Task.MULTI_LABEL else Value("int64")
    return Features({REFERENCES: truth, SCORES: List(Value("float64"))})


class ArrowMetric(evaluate.Metric):  # type: ignore[misc]
    """A metric of ``references`` and ``prediction_scores``.

    Attributes:
        config: The subset or task, set before `_info` is called.
    """

    def __init__(self, config_name: str | None = None, *, num_classes: int | None = None, **options: Any) -> None:
        self.config: MetricConfig = resolve(config_name, num_classes)
        self._columns: int | None = None
        with _one_line():
            super().__init__(config_name=self.config.name, **options)

    def _build_data_dir(self) -> str:
        """The folder of added rows; a temporary one if the default is not writable and there is only one process.

        `evaluate` creates its folder below ``HF_HOME`` even if rows are kept in memory or never added.
        """
        try:
            return str(super()._build_data_dir())
        except OSError as error:
            if self.num_process > 1:
                where = f"cannot write {self._data_dir_root} ({first_line(error)})"
                raise ScoreError(f"{where}: pass a cache_dir that all processes share") from None
            # Removed together with the metric.
            self._temporary = tempfile.TemporaryDirectory(prefix="medmnist-hf-metric-")
            return self._temporary.name

    def add_batch(
        self,
        references: object = None,
        prediction_scores: object = None,
        *,
        predictions: object = None,
        **others: object,
    ) -> None:
        """Add rows for `compute`; a rejected batch does not affect the rows added before.

        Args:
            references: Ground truth of N rows: class ids, ``(N, 1)``, one-hot or multi-hot rows, or lists of findings.
            prediction_scores: Scores of the same rows: arrays, tensors or lists. Both may be empty, e.g. for one of
                several processes.
            predictions: Not supported: a batch could be scores or decisions depending on its numbers.
            **others: Not supported.

        Raises:
            ScoreError: The rows cannot be scored, or have another number of columns than those before.
        """
        if predictions is not None:
            raise ScoreError(
                "predictions cannot be added: pass prediction_scores with one score per class, or all decisions at "
                "once to compute(references=..., predictions=...)"
            )
        if others:
            raise ScoreError(f"unknown input {next(iter(others))!r}: pass references and prediction_scores")
        _require_both(references, prediction_scores)
        truth, scores = canonical(references, prediction_scores, self.config)
        if len(scores):
            columns, before = scores.shape[1], self._columns
            if len(self) and columns != before:
                raise ScoreError(
                    f"scores have {counted(columns, 'column')} but those added before {before}: add the same number"
                )
            self._columns = columns
        with _one_line():
            super().add_batch(references=truth, prediction_scores=scores)

    def add(self, reference: object = None, prediction_scores: object = None, **others: object) -> None:
        """Add one row for `compute`.

        Args:
            reference: Its ground truth: a class id, a one-hot or multi-hot row, or a list of findings.
            prediction_scores: One score per class; for the binary task, a single score is enough.
            **others: Only ``references``, which `evaluate.combine` passes instead of ``reference``.

        Raises:
            ScoreError: The row cannot be scored, or has another number of columns than those before.
        """
        reference = others.pop(REFERENCES, None) if reference is None else reference
        references, scores = (None if row is None else [plain(row)] for row in (reference, prediction_scores))
        self.add_batch(references=references, prediction_scores=scores, **others)

    def compute(
        self,
        references: object = None,
        prediction_scores: object = None,
        *,
        predictions: object = None,
        **options: Any,
    ) -> dict[str, float] | None:
        """Score the rows added before, together with those passed here.

        After an error, a single process keeps the rows added before, so that the call can be repeated with other
        options; rows passed here are dropped. With several processes, all rows are dropped.

        Args:
            references: As for `add_batch`, or None if all rows were added.
            prediction_scores: As for `add_batch`, or None.
            predictions: Predicted class ids or names, for which only ``acc`` is defined. A table of floats of shape
                ``(N, K)`` is treated as `prediction_scores`.
            **options: Options of `medmnist_hf.evaluate_module.report.report`, e.g. ``from_logits`` or ``ci``.

        Returns:
            ``auc``, ``acc`` and the results of the options; None in all processes but the first.

        Raises:
            ScoreError: The rows cannot be scored, an option is unknown, or another process did not answer.
        """
        check_options(options)
        alone = self.writer is None and self.num_process == 1
        if prediction_scores is None and is_score_table(predictions):
            prediction_scores, predictions = predictions, None
        if predictions is not None:
            if prediction_scores is not None or options or not alone:
                raise ScoreError(
                    "predictions only work with references, without options, and only give acc: pass "
                    "prediction_scores instead"
                )
            if references is None:
                raise ScoreError("references are missing: pass references and predictions")
            return decision_accuracy(plain(references), plain(predictions), self.config)
        if references is not None or prediction_scores is not None:
            _require_both(references, prediction_scores)
            if alone:
                return report(plain(references), plain(prediction_scores), self.config, **options)
        elif alone:
            raise ScoreError("nothing to score: pass references and prediction_scores, or add batches first")
        elif self.writer is None:
            self.add_batch(references=[], prediction_scores=[])  # a process without rows must still join the others
        added = len(self) if self.num_process == 1 else 0
        with _one_line():
            rows = super().compute(references=references, prediction_scores=prediction_scores)
        if rows is None:
            return None
        truth, scores = rows
        try:
            if len(widths := sorted({len(row) for row in scores})) > 1:
                few, many = widths[0], widths[-1]
                raise ScoreError(
                    f"scores have {counted(few, 'column')} in some batches and {many} in others: add the same number"
                )
            return report(np.asarray(truth), scores, self.config, **options)
        except BaseException:
            if added:
                super().add_batch(references=truth[:added], prediction_scores=scores[:added])
            raise

    def _compute(self, **rows: list[Any]) -> tuple[list[Any], list[Any]]:
        """Return the joined rows; `compute` scores them after `evaluate` has removed its files and locks."""
        return rows[REFERENCES], rows[SCORES]

    def as_compute_metrics(self, *, from_logits: bool, **options: Any) -> Callable[..., dict[str, float]]:
        """A ``compute_metrics`` function for `transformers.Trainer`, with or without ``batch_eval_metrics``.

        Args:
            from_logits: ``True`` for models that return logits, as nearly all do. It is required, since it cannot be
                guessed: the logits of an untrained model may all lie within 0..1.
            **options: As for `compute`.

        Raises:
            ScoreError: An option is unknown.
        """
        options["from_logits"] = from_logits
        check_options(options)

        def compute_metrics(prediction: Any, compute_result: bool = True) -> dict[str, float]:
            # A model that also returns e.g. hidden states gives a tuple, with the logits first.
            scores, truth = (
                part[0] if isinstance(part, tuple) else part for part in (prediction.predictions, prediction.label_ids)
            )
            if not compute_result:
                self.add_batch(references=truth, prediction_scores=scores)
                return {}
            return self.compute(references=truth, prediction_scores=scores, **options) or {}

        return compute_metrics

    def evaluator(self, **options: Any) -> Any:
        """An `evaluate.evaluator` for image classification that passes all scores of a pipeline to this metric.

        Args:
            **options: As for `compute`, e.g. ``ci=True``.

        Raises:
            ScoreError: An option is unknown.
            MedMNISTError: transformers or scipy is missing.
        """
        check_options(options)
        try:
            # Imports transformers, which the metric does not need otherwise.
            from medmnist_hf.evaluate_module.evaluator import MedmnistEvaluator

            return MedmnistEvaluator(self, options)
        except ImportError:
            raise MedMNISTError(
                "an evaluator needs transformers and scipy: pip install 'evaluate[evaluator]'"
            ) from None


def canonical(references: object, scores: object, config: MetricConfig) -> tuple[Array, Array]:
    """Convert a batch to the canonical form, in which batches can be joined.

    Args:
        references: For the shapes see `medmnist_hf.scoring.predictions.check`; may be empty if the scores are.
        scores: Likewise.
        config: The subset or task.

    Returns:
        Class ids, int64 of shape ``(N,)``, or multi-hot rows, uint8 of shape ``(N, L)``; and the unchanged scores,
        float64 of shape ``(N, K)``.

    Raises:
        ScoreError: As `medmnist_hf.scoring.predictions.check`, except for scores outside 0..1, which only `compute`
            can interpret.
    """
    if _is_empty(references) and _is_empty(scores):
        return np.zeros(0), np.zeros((0, 0))
    values = plain(scores)
    checked = check(plain(references), values, config.task, from_logits=False, num_classes=config.num_classes)
    table = np.asarray(np.asarray(values).tolist(), np.float64).reshape(checked.rows, -1)
    return np.asarray(checked.ids if checked.hot is None else checked.hot.T.astype(np.uint8)), table


def _require_both(references: object, scores: object) -> None:
    for name, values in ((REFERENCES, references), (SCORES, scores)):
        if values is None:
            raise ScoreError(f"{name} are missing: pass references and prediction_scores")


def _is_empty(values: object) -> bool:
    try:
        return len(values) == 0  # type: ignore[arg-type]
    except TypeError:
        return False


@contextmanager
def _one_line() -> Iterator[None]:
    """Convert the errors of `evaluate` to a one-line `ScoreError`."""
    try:
        yield
    except ValueError as error:
        raise ScoreError(" ".join(str(error).split())) from None
