"""Training: models, transforms, recipes and methods. The only part of the package that imports torch.

torch is imported when `run` or `read_results` is first accessed, not with this module.

Example:
    >>> from medmnist_hf.training import Recipe, run
    >>> run(Recipe(dataset="breastmnist", root="dist", epochs=3), "runs/mine").test.auc.mean  # doctest: +SKIP
    0.87
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medmnist_hf.training.joint.results import JointResult, read_joint_results
    from medmnist_hf.training.recipe import Recipe, make_recipe, presets
    from medmnist_hf.training.results import RunResult, read_results
    from medmnist_hf.training.running import run, run_joint

_HOMES = {
    "JointResult": "joint.results",
    "Recipe": "recipe",
    "RunResult": "results",
    "make_recipe": "recipe",
    "presets": "recipe",
    "read_joint_results": "joint.results",
    "read_results": "results",
    "run": "running",
    "run_joint": "running",
}

__all__ = [
    "JointResult",
    "Recipe",
    "RunResult",
    "make_recipe",
    "presets",
    "read_joint_results",
    "read_results",
    "run",
    "run_joint",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value
