"""The `evaluate` module of MedMNIST: the folder that `evaluate.load` reads, and its implementation.

Example:
    >>> from medmnist_hf.evaluate_module import metric
    >>> metric("breastmnist").compute([0, 1], [0.2, 0.7])  # doctest: +SKIP
    {'auc': 1.0, 'acc': 1.0}
"""

from pathlib import Path
from typing import Any, Final

from medmnist_hf.evaluate_module.report import resolve
from medmnist_hf.extras import require_modules

FOLDER: Final = Path(__file__).parent / "medmnist"
"""The path to pass to `evaluate.load`."""


def metric(
    config: str,
    *,
    num_classes: int | None = None,
    num_process: int = 1,
    keep_in_memory: bool | None = None,
    **options: Any,
) -> Any:
    """The metric of a subset, like ``evaluate.load(FOLDER, config)``, without network access.

    Args:
        config: Flag of a subset; for other data a task: ``binary-class``, ``multi-class``, ``ordinal-regression`` or
            ``multi-label``.
        num_classes: Number of classes, which is the number of score columns; only with a task.
        num_process: Number of processes that add rows.
        keep_in_memory: Keep added rows in memory instead of in a file; by default only for a single process.
        **options: ``process_id``, ``experiment_id``, ``cache_dir``, ``seed`` and ``timeout`` of `evaluate.load`.

    Returns:
        An `evaluate.Metric` with ``add``, ``add_batch``, ``compute``, ``as_compute_metrics`` and ``evaluator``.

    Raises:
        CatalogError: No such subset or task.
        ScoreError: An option is out of range.
        MissingModuleError: `evaluate` is not installed.
    """
    resolve(config, num_classes)
    require_modules("evaluate", "evaluate")
    # Takes seconds to import, and needs `evaluate`, which is an extra.
    from medmnist_hf.evaluate_module.medmnist.medmnist import Medmnist

    in_memory = num_process == 1 if keep_in_memory is None else keep_in_memory
    return Medmnist(config, num_classes=num_classes, num_process=num_process, keep_in_memory=in_memory, **options)
