"""The `datasets.Features` of a subset in one size: the columns ``image`` and ``label``."""

from datasets import Array3D, ClassLabel, Features, Image, List

from medmnist_hf.catalog import Subset, Task


def features_of(subset: Subset, size: int) -> Features:
    """Return the typed columns of one config.

    Args:
        subset: A subset of the catalog.
        size: One of its sizes.

    Returns:
        ``image``: ``Image(mode="L")`` or ``Image(mode="RGB")`` in 2D, ``Array3D((size,) * 3, "uint8")`` in 3D.
        ``label``: ``ClassLabel``, or ``List(ClassLabel)`` of the findings present for the multi-label task.

    Raises:
        CatalogError: The subset is not published in that size.
    """
    shape = subset.file(size).image_shape
    image = Array3D(shape, "uint8") if subset.ndim == 3 else Image(mode="RGB" if subset.channels == 3 else "L")
    label = ClassLabel(names=list(subset.labels))
    return Features({"image": image, "label": List(label) if subset.task is Task.MULTI_LABEL else label})
