"""Read the labels, and the names of their classes, of a data set from which rows are chosen."""

from typing import Any

from medmnist_hf.array_types import Array
from medmnist_hf.data.arrays import Arrays
from medmnist_hf.errors import SourceError
from medmnist_hf.sampling.stratify import check_labels


def read_names(data: Any, function: str) -> tuple[Array, list[str]]:
    """The labels of a data set, and the name of each class or finding.

    Args:
        data: A `datasets.Dataset` with a column ``label``, or `medmnist_hf.data.arrays.Arrays`, whose classes are
            named by their number.
        function: The public function it was passed to, for error messages.

    Returns:
        Class ids, shape (N,), or zeros and ones, shape (N, L); and the names.

    Raises:
        SourceError: It is something else, or its labels are not of these kinds.
    """
    if isinstance(data, Arrays):
        check_labels(data.labels)
        several = data.labels.ndim == 2
        count = data.labels.shape[1] if several else int(data.labels.max()) + 1
        return data.labels, [f"{'finding' if several else 'class'} {at}" for at in range(count)]
    import datasets

    from medmnist_hf.data.columns import read_labels

    if isinstance(data, datasets.IterableDataset | datasets.IterableDatasetDict):
        raise SourceError(f"{function} needs all labels at once, which streaming has not: load without streaming=True")
    return read_labels(data, function)
