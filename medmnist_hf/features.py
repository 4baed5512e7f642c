"""The `datasets.Features` of a subset in one size: the columns ``image`` and ``label``, and those that CSV files add.

A feature store has the column ``features`` in place of ``image``.
"""

from collections.abc import Sequence

from datasets import Array3D, ClassLabel, Features, Image, List, Value

from medmnist_hf.catalog import Subset, Task
from medmnist_hf.manifest import AGE, FEATURES


def features_of(subset: Subset, size: int, added: Sequence[str] = ()) -> Features:
    """Return the typed columns of one config.

    Args:
        subset: A subset of the catalog.
        size: One of its sizes.
        added: Names of columns that CSV files add, see `medmnist_hf.manifest.ADDED`.

    Returns:
        ``image``: ``Image(mode="L")`` or ``Image(mode="RGB")`` in 2D, ``Array3D((size,) * 3, "uint8")`` in 3D.
        ``label``: ``ClassLabel``, or ``List(ClassLabel)`` of the findings present for the multi-label task.
        Added columns: text, but ``age`` is a number of years; either may be None.

    Raises:
        CatalogError: The subset is not published in that size.
    """
    shape = subset.file(size).image_shape
    image = Array3D(shape, "uint8") if subset.ndim == 3 else Image(mode="RGB" if subset.channels == 3 else "L")
    label = ClassLabel(names=list(subset.labels))
    more = {name: Value("float32" if name == AGE else "string") for name in added}
    return Features({"image": image, "label": List(label) if subset.task is Task.MULTI_LABEL else label} | more)


def embedding_features_of(subset: Subset, size: int, dtype: str, width: int) -> Features:
    """Return the typed columns of a feature store.

    Args:
        subset: A subset of the catalog.
        size: One of its sizes.
        dtype: ``float32`` or ``float16``.
        width: Number of values per row.

    Returns:
        ``features``: a list of fixed length; ``label`` as in `features_of`.
    """
    return Features({FEATURES: List(Value(dtype), length=width), "label": features_of(subset, size)["label"]})
