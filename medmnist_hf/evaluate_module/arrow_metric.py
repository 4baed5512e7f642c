"""Rows into Arrow and back as arrays, under the protocol of `evaluate.Metric` and without its Python floats.

`evaluate` makes each score a Python float on the way into Arrow and again on the way out. Here a batch is checked,
brought to one form (class ids or multi-hot rows, float64 scores) and handed over as buffers; files, locks and the
meeting of several processes stay those of `evaluate`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import evaluate
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets import Features, List, Value

from medmnist_hf.catalog import Task
from medmnist_hf.errors import MedMNISTError, ScoreError
from medmnist_hf.evaluate_module.report import Config, check_options, decided, resolve
from medmnist_hf.scoring.predictions import check

REFERENCES: Final = "references"
SCORES: Final = "prediction_scores"
FLUSH: Final = 1000
"""Rows that small batches gather to before they are written: Arrow's cost is by the batch."""

Array = npt.NDArray[Any]


def features_of(config: Config) -> Features:
    """Arrow types of the rows: class ids (multi-hot rows if multi-label) and float64 scores."""
    truth = List(Value("uint8")) if config.task is Task.MULTI_LABEL else Value("int64")
    return Features({REFERENCES: truth, SCORES: List(Value("float64"))})


class ArrowMetric(evaluate.Metric):  # type: ignore[misc]
    """A metric of ``references`` and ``prediction_scores`` whose rows travel as Arrow buffers.

    Attributes:
        config: The subset or task, known before `_info` is asked.
    """

    # What evaluate keeps there, by its own names.
    data: Any
    file_paths: Any
    filelocks: Any

    def __init__(self, config_name: str | None = None, *, num_classes: int | None = None, **options: Any) -> None:  # noqa: ANN401
        self.config: Config = resolve(config_name, num_classes)
        self._columns: int | None = None
        self._pending: list[tuple[Array, Array]] = []
        self._waiting = 0
        try:
            super().__init__(config_name=self.config.name, **options)
        except ValueError as error:
            raise ScoreError(str(error)) from None

    def __len__(self) -> int:
        """Rows added and not yet scored."""
        return int(super().__len__()) + self._waiting

    def add_batch(
        self,
        *,
        references: object = None,
        prediction_scores: object = None,
        predictions: object = None,
        **others: object,
    ) -> None:
        """Add rows to be scored by `compute`; a batch that is refused leaves the rows added before.

        Args:
            references: What is true of N rows: class ids, ``(N, 1)``, one-hot or multi-hot rows, or lists of findings.
            prediction_scores: Scores of the same rows; arrays, tensors or lists. Both empty is a share without rows,
                as one of several processes may have.
            predictions: Not taken: decisions have no AUC.
            **others: Not taken.

        Raises:
            ScoreError: The rows cannot be scored, or differ in columns from those before.
        """
        if predictions is not None:
            raise ScoreError("predictions cannot be added: pass prediction_scores, a score for each class")
        if others:
            raise ScoreError(f"unknown input {next(iter(others))!r}: pass references and prediction_scores")
        for name, values in ((REFERENCES, references), (SCORES, prediction_scores)):
            if values is None:
                raise ScoreError(f"{name} are missing: pass references and prediction_scores")
        if _is_empty(references) and _is_empty(prediction_scores):
            self._open()
        else:
            self._write(*canonical(references, prediction_scores, self.config))

    def add(self, *, reference: object = None, prediction_scores: object = None, **others: object) -> None:
        """Add one row to be scored by `compute`.

        Args:
            reference: What is true of it: a class id, a one-hot or multi-hot row, or a list of findings.
            prediction_scores: Its scores, one for each class; one number will do for the binary task.
            **others: ``references`` for ``reference``, as `evaluate.combine` has it; nothing else.

        Raises:
            ScoreError: The row cannot be scored, or differs in columns from those before.
        """
        reference = others.pop(REFERENCES, None) if reference is None else reference
        wrapped = (None if value is None else [plain(value)] for value in (reference, prediction_scores))
        references, scores = wrapped
        self.add_batch(references=references, prediction_scores=scores, **others)

    def compute(
        self,
        *,
        references: object = None,
        prediction_scores: object = None,
        predictions: Sequence[object] | None = None,
        **options: Any,  # noqa: ANN401  (they are those of `report`)
    ) -> dict[str, float] | None:
        """Score the rows added before and those given here.

        When it raises, rows added before are kept, so that it can be called again with other options; rows given
        here are not. Among several processes they are given up.

        Args:
            references: As for `add_batch`, or None if all rows were added.
            prediction_scores: As for `add_batch`, or None.
            predictions: Instead of scores, class ids or names decided on, for which only ``acc`` can be told.
            **options: Those of `medmnist_hf.evaluate_module.report.report`: ``from_logits``, ``measures``, ``ci``, ...

        Returns:
            ``auc``, ``acc`` and what the options ask for; None in a process other than the first.

        Raises:
            ScoreError: The rows cannot be scored, an option is unknown, or another process did not answer.
        """
        check_options(options)
        if predictions is not None:
            return self._decided(references, prediction_scores, predictions, options)
        if references is None and prediction_scores is None and self.writer is None and self.num_process == 1:
            raise ScoreError("nothing to score: pass references and prediction_scores, or add batches before")
        if (references is None) != (prediction_scores is None):
            missing = REFERENCES if references is None else SCORES
            raise ScoreError(f"{missing} are missing: pass references and prediction_scores")
        if self.writer is None and references is None:
            self._open()  # a process without rows still has to meet the others
        before = len(self)
        try:
            result: dict[str, float] | None = super().compute(
                references=references, prediction_scores=prediction_scores, **options
            )
        except BaseException as error:
            self._undo(before)
            if isinstance(error, ValueError):
                raise ScoreError(" ".join(str(error).split())) from None
            raise
        self._columns = None
        return result

    def as_compute_metrics(self, *, from_logits: bool, **options: Any) -> Callable[..., dict[str, float]]:  # noqa: ANN401
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

        def compute_metrics(prediction: Any, compute_result: bool = True) -> dict[str, float]:  # noqa: ANN401
            # A model that returns more than logits, such as hidden states, gives a tuple of which they are the first.
            scores, truth = (
                part[0] if isinstance(part, tuple) else part for part in (prediction.predictions, prediction.label_ids)
            )
            if not compute_result:
                self.add_batch(references=truth, prediction_scores=scores)
                return {}
            return self.compute(references=truth, prediction_scores=scores, **options) or {}

        return compute_metrics

    def evaluator(self, **options: Any) -> Any:  # noqa: ANN401  (its class is made of untyped ones)
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
            from medmnist_hf.evaluate_module.evaluator import MedmnistEvaluator  # noqa: PLC0415

            return MedmnistEvaluator(self, options)
        except ImportError:
            raise MedMNISTError(
                "an evaluator needs transformers and scipy: pip install 'evaluate[evaluator]'"
            ) from None

    def _decided(
        self, references: object, scores: object, predictions: Sequence[object], options: dict[str, Any]
    ) -> dict[str, float]:
        if scores is not None or options or self.writer is not None or self.num_process > 1:
            raise ScoreError("predictions go with references alone and give acc alone: pass prediction_scores instead")
        if references is None:
            raise ScoreError("references are missing: pass references and predictions")
        return decided(plain(references), plain(predictions), self.config)

    def _open(self) -> None:
        if self.writer is None:
            self.selected_feature_format = self.features
            try:
                self._init_writer()
            except ValueError as error:
                raise ScoreError(" ".join(str(error).split())) from None

    def _write(self, truth: Array, scores: Array) -> None:
        if self.writer is None or not len(self):
            self._columns = None
        if self._columns not in (None, scores.shape[1]):
            raise ScoreError(f"scores have {scores.shape[1]} columns but those before {self._columns}: add the same")
        self._open()
        self._columns = scores.shape[1]
        # What waits is a copy, for a caller may fill one array again and again.
        self._pending.append((truth, scores if len(scores) >= FLUSH else scores.copy()))
        self._waiting += len(scores)
        if self._waiting >= FLUSH:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            truth, scores = (
                parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in zip(*self._pending, strict=True)
            )
            table = pa.table({REFERENCES: _arrow(truth), SCORES: _arrow(scores)})
            self.writer.write_table(table, writer_batch_size=len(table))
            self._pending, self._waiting = [], 0

    def _finalize(self) -> None:
        self._flush()
        super()._finalize()
        if self.data is not None:
            self.data = _Columns(self.data.data.table)

    def _undo(self, before: int) -> None:
        """After a failure: files and locks given back, and the rows that were there before added again."""
        if self.data is None:
            return
        kept = before and self.num_process == 1
        truth, scores = (np.array(self.data[name][:before]) if kept else None for name in (REFERENCES, SCORES))
        self.data = self.buf_writer = self.cache_file_name = self.filelock = None
        for lock, path in zip(self.filelocks or (), self.file_paths or (), strict=True):
            Path(path).unlink(missing_ok=True)
            lock.release()
        self.filelocks = self.file_paths = None
        if truth is not None and scores is not None:
            self._write(truth, scores)


class _Columns:
    """Columns of a table as arrays, in the place of the `datasets.Dataset` that `evaluate` would slice into lists."""

    def __init__(self, table: pa.Table) -> None:
        self.columns = {name: _array(table.column(name).combine_chunks()) for name in (REFERENCES, SCORES)}

    def set_format(self, type: str | None = None) -> None:
        """Arrays have one format."""

    def __getitem__(self, name: str) -> Array:
        """The rows of a column, shape ``(N,)`` or ``(N, K)``."""
        return self.columns[name]


def canonical(references: object, scores: object, config: Config) -> tuple[Array, Array]:
    """A batch in the form in which batches can be joined.

    Args:
        references: For the shapes see `medmnist_hf.scoring.predictions.check`.
        scores: Likewise.
        config: The subset or task.

    Returns:
        Class ids, int64, shape ``(N,)``, or multi-hot rows, uint8, shape ``(N, L)``; and scores, float64, shape
        ``(N, K)``, as they were given.

    Raises:
        ScoreError: As `medmnist_hf.scoring.predictions.check`, but for scores outside 0..1: `compute` will say what
            they are.
    """
    values = plain(scores)
    given = check(plain(references), values, config.task, from_logits=False, num_classes=config.num_classes)
    table = np.asarray(values)
    wide = np.asarray(table.tolist() if table.dtype == object else table, np.float64).reshape(given.rows, -1)
    if given.hot is not None:
        return given.hot.T.astype(np.uint8), wide
    return np.asarray(given.ids, np.int64), wide


def plain(values: Any) -> Any:  # noqa: ANN401
    """Tensors as arrays, off their device and graph; lazy columns as what slicing gives; the rest as it is."""
    if hasattr(values, "detach"):
        return values.detach().cpu().double().numpy()
    if isinstance(values, Sequence) and not isinstance(values, list | tuple | str | bytes | range):
        return values[:]
    return values


def _is_empty(values: object) -> bool:
    try:
        return len(values) == 0  # type: ignore[arg-type]
    except TypeError:
        return False


def _arrow(values: Array) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    if values.ndim == 1:
        return flat
    rows, columns = values.shape
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * np.int32(columns)), flat)


def _array(column: pa.Array) -> Array:
    if not pa.types.is_list(column.type):
        return np.asarray(column)
    widths = np.unique(np.diff(np.asarray(column.offsets)))
    if len(widths) > 1:
        raise ScoreError(f"scores have {widths[0]} columns in some batches and {widths[1]} in others: add the same")
    flat = np.asarray(column.flatten())
    return flat.reshape(len(column), -1) if len(column) else flat
