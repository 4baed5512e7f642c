"""The metric behind `evaluate`: scores passed to `compute` directly, added rows once `evaluate` has joined them.

A batch is checked and brought to one form (class ids or multi-hot rows, float64 scores) and then added by `evaluate`,
which keeps Arrow files, locks and the meeting of several processes.
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
from medmnist_hf.errors import MedMNISTError, ScoreError, first_line
from medmnist_hf.evaluate_module.report import MetricConfig, check_options, decided, report, resolve
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
        config: The subset or task, known before `_info` is asked.
    """

    def __init__(self, config_name: str | None = None, *, num_classes: int | None = None, **options: Any) -> None:
        self.config: MetricConfig = resolve(config_name, num_classes)
        self._columns: int | None = None
        with _one_line():
            super().__init__(config_name=self.config.name, **options)

    def _build_data_dir(self) -> str:
        """The folder of added rows; a temporary one where that of `evaluate` cannot be written and nobody shares it.

        `evaluate` makes its folder below ``HF_HOME`` even where rows are held in memory, or are never added.
        """
        try:
            return str(super()._build_data_dir())
        except OSError as error:
            if self.num_process > 1:
                where = f"cannot write {self._data_dir_root} ({first_line(error)})"
                raise ScoreError(f"{where}: pass a cache_dir that all processes share") from None
            # It goes with the metric.
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
        """Add rows to be scored by `compute`; a batch that is refused leaves the rows added before.

        Args:
            references: What is true of N rows: class ids, ``(N, 1)``, one-hot or multi-hot rows, or lists of findings.
            prediction_scores: Scores of the same rows; arrays, tensors or lists. Both empty is a share without rows,
                as one of several processes may have.
            predictions: Not taken: whether a batch of them is scores or decisions would hang on its numbers.
            **others: Not taken.

        Raises:
            ScoreError: The rows cannot be scored, or differ in columns from those before.
        """
        if predictions is not None:
            raise ScoreError(
                "predictions cannot be added: pass them as prediction_scores, a score for each class, or all "
                "decisions at once to compute(references=..., predictions=...)"
            )
        if others:
            raise ScoreError(f"unknown input {next(iter(others))!r}: pass references and prediction_scores")
        _require_both(references, prediction_scores)
        truth, scores = canonical(references, prediction_scores, self.config)
        if len(scores):
            columns, before = scores.shape[1], self._columns
            if len(self) and columns != before:
                raise ScoreError(f"scores have {columns} columns but those before {before}: add the same")
            self._columns = columns
        with _one_line():
            super().add_batch(references=truth, prediction_scores=scores)

    def add(self, reference: object = None, prediction_scores: object = None, **others: object) -> None:
        """Add one row to be scored by `compute`.

        Args:
            reference: What is true of it: a class id, a one-hot or multi-hot row, or a list of findings.
            prediction_scores: Its scores, one for each class; one number will do for the binary task.
            **others: ``references`` for ``reference``, as `evaluate.combine` has it; nothing else.

        Raises:
            ScoreError: The row cannot be scored, or differs in columns from those before.
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
        """Score the rows added before and those passed here.

        When it raises, rows added before are kept, so that it can be called again with other options; rows passed
        here are not. Among several processes they are given up.

        Args:
            references: As for `add_batch`, or None if all rows were added.
            prediction_scores: As for `add_batch`, or None.
            predictions: Class ids or names decided on, for which only ``acc`` is defined. A table of floats, shape
                ``(N, K)``, is taken for `prediction_scores`.
            **options: Those of `medmnist_hf.evaluate_module.report.report`: ``from_logits``, ``measures``, ``ci``, ...

        Returns:
            ``auc``, ``acc`` and what the options ask for; None in a process other than the first.

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
                    "predictions go with references alone and give acc alone: pass prediction_scores instead"
                )
            if references is None:
                raise ScoreError("references are missing: pass references and predictions")
            return decided(plain(references), plain(predictions), self.config)
        if references is not None or prediction_scores is not None:
            _require_both(references, prediction_scores)
            if alone:
                return report(plain(references), plain(prediction_scores), self.config, **options)
        elif alone:
            raise ScoreError("nothing to score: pass references and prediction_scores, or add batches before")
        elif self.writer is None:
            self.add_batch(references=[], prediction_scores=[])  # a process without rows still has to meet the others
        added = len(self) if self.num_process == 1 else 0
        with _one_line():
            rows = super().compute(references=references, prediction_scores=prediction_scores)
        if rows is None:
            return None
        truth, scores = rows
        try:
            if len(widths := sorted({len(row) for row in scores})) > 1:
                few, many = widths[0], widths[-1]
                raise ScoreError(f"scores have {few} columns in some batches and {many} in others: add the same")
            return report(np.asarray(truth), scores, self.config, **options)
        except BaseException:
            if added:
                super().add_batch(references=truth[:added], prediction_scores=scores[:added])
            raise

    def _compute(self, **rows: list[Any]) -> tuple[list[Any], list[Any]]:
        """Hand the joined rows to `compute`, which scores them once `evaluate` has removed its files and locks."""
        return rows[REFERENCES], rows[SCORES]

    def as_compute_metrics(self, *, from_logits: bool, **options: Any) -> Callable[..., dict[str, float]]:
        """A ``compute_metrics`` for `transformers.Trainer`, with or without ``batch_eval_metrics``.

        Args:
            from_logits: ``True`` for models that give logits, as nearly all do. Never guessed: the logits of an
                untrained model can all lie within 0..1.
            **options: As for `compute`.

        Raises:
            ScoreError: An option is unknown.
        """
        options["from_logits"] = from_logits
        check_options(options)

        def compute_metrics(prediction: Any, compute_result: bool = True) -> dict[str, float]:
            # A model that returns more than logits, such as hidden states, gives a tuple of which they are the first.
            scores, truth = (
                part[0] if isinstance(part, tuple) else part for part in (prediction.predictions, prediction.label_ids)
            )
            if not compute_result:
                self.add_batch(references=truth, prediction_scores=scores)
                return {}
            return self.compute(references=truth, prediction_scores=scores, **options) or {}

        return compute_metrics

    def evaluator(self, **options: Any) -> Any:
        """An `evaluate.evaluator` for image classification that gives this metric all scores of a pipeline.

        Args:
            **options: As for `compute`, e.g. ``ci=True``.

        Raises:
            ScoreError: An option is unknown.
            MedMNISTError: transformers or scipy is missing.
        """
        check_options(options)
        try:
            # It imports transformers, which no other use of the metric needs.
            from medmnist_hf.evaluate_module.evaluator import MedmnistEvaluator

            return MedmnistEvaluator(self, options)
        except ImportError:
            raise MedMNISTError(
                "an evaluator needs transformers and scipy: pip install 'evaluate[evaluator]'"
            ) from None


def canonical(references: object, scores: object, config: MetricConfig) -> tuple[Array, Array]:
    """A batch in the form in which batches can be joined.

    Args:
        references: For the shapes see `medmnist_hf.scoring.predictions.check`; empty if the scores are, for no rows.
        scores: Likewise.
        config: The subset or task.

    Returns:
        Class ids, int64, shape ``(N,)``, or multi-hot rows, uint8, shape ``(N, L)``; and scores, float64, shape
        ``(N, K)``, as they were passed.

    Raises:
        ScoreError: As `medmnist_hf.scoring.predictions.check`, but for scores outside 0..1: `compute` will say what
            they are.
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
    """Turn the errors of `evaluate` into ours, which are one line each."""
    try:
        yield
    except ValueError as error:
        raise ScoreError(" ".join(str(error).split())) from None
