"""MedMNIST on Hugging Face: 18 standardised biomedical image-classification data sets, typed and verified.

Example:
    >>> import medmnist_hf
    >>> train = medmnist_hf.load("pathmnist", 224, split="train")  # doctest: +SKIP
    >>> medmnist_hf.subset("pathmnist").labels[0]
    'adipose'
"""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from medmnist_hf.catalog import Subset, Task, subset, subsets
from medmnist_hf.errors import MedMNISTError

if TYPE_CHECKING:
    from medmnist_hf.loading import load
    from medmnist_hf.metrics import metric

__version__ = version("medmnist-hf")
__all__ = ["MedMNISTError", "Subset", "Task", "__version__", "load", "metric", "subset", "subsets"]


def __getattr__(name: str) -> Any:  # noqa: ANN401  (a module's attribute can be anything)
    # `datasets` takes a second to import: those who only ask the catalogue do not wait for it.
    if name == "load":
        from medmnist_hf.loading import load  # noqa: PLC0415

        return load
    if name == "metric":
        from medmnist_hf.metrics import metric  # noqa: PLC0415

        return metric
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
