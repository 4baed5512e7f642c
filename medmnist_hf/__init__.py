"""MedMNIST on Hugging Face: standardized biomedical image-classification data sets, typed and verified.

Example:
    >>> import medmnist_hf
    >>> train = medmnist_hf.load("pathmnist", 224, split="train")  # doctest: +SKIP
    >>> medmnist_hf.subset("pathmnist").labels[0]
    'adipose'
"""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from medmnist_hf.catalog import Subset, Task, cite, subset, subsets
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.extras import import_member

if TYPE_CHECKING:
    from medmnist_hf.corruptions.dataset import corrupt
    from medmnist_hf.data.array_cache import cache_info, clear_cache
    from medmnist_hf.data.arrays import to_arrays
    from medmnist_hf.embeddings.reading import load_features
    from medmnist_hf.evaluate_module import metric
    from medmnist_hf.evaluation.prediction_files import read_predictions, write_predictions
    from medmnist_hf.exporting.by_name import export, montage
    from medmnist_hf.joint.labels import JointLabels
    from medmnist_hf.joint.load import load_many
    from medmnist_hf.joint.scores import score_many, separate_predictions
    from medmnist_hf.loading.load import load, load_arrays
    from medmnist_hf.loading.paired_organs import paired_organs
    from medmnist_hf.loading.statistics import pixel_statistics
    from medmnist_hf.sampling.folds import folds
    from medmnist_hf.sampling.take import take

__version__ = version("medmnist-hf")
"""Version of this package."""

__all__ = [
    "JointLabels",
    "MedMNISTError",
    "Subset",
    "Task",
    "__version__",
    "cache_info",
    "cite",
    "clear_cache",
    "corrupt",
    "export",
    "folds",
    "load",
    "load_arrays",
    "load_features",
    "load_many",
    "metric",
    "montage",
    "paired_organs",
    "pixel_statistics",
    "read_predictions",
    "score_many",
    "separate_predictions",
    "subset",
    "subsets",
    "take",
    "to_arrays",
    "write_predictions",
]

_LAZY_MODULES: Final = {
    "JointLabels": "medmnist_hf.joint.labels",
    "cache_info": "medmnist_hf.data.array_cache",
    "clear_cache": "medmnist_hf.data.array_cache",
    "corrupt": "medmnist_hf.corruptions.dataset",
    "export": "medmnist_hf.exporting.by_name",
    "folds": "medmnist_hf.sampling.folds",
    "load": "medmnist_hf.loading.load",
    "load_arrays": "medmnist_hf.loading.load",
    "load_features": "medmnist_hf.embeddings.reading",
    "load_many": "medmnist_hf.joint.load",
    "metric": "medmnist_hf.evaluate_module",
    "montage": "medmnist_hf.exporting.by_name",
    "paired_organs": "medmnist_hf.loading.paired_organs",
    "pixel_statistics": "medmnist_hf.loading.statistics",
    "read_predictions": "medmnist_hf.evaluation.prediction_files",
    "score_many": "medmnist_hf.joint.scores",
    "separate_predictions": "medmnist_hf.joint.scores",
    "take": "medmnist_hf.sampling.take",
    "to_arrays": "medmnist_hf.data.arrays",
    "write_predictions": "medmnist_hf.evaluation.prediction_files",
}
"""Public name -> module it is imported from on first access, so that reading the catalog alone is fast."""


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _LAZY_MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_member(_LAZY_MODULES[name], name)
