"""``eval.yaml`` of a data set's repository: the tasks to which models report results, one for each size and measure.

The format: https://huggingface.co/docs/hub/eval-results. The Hub shows a leaderboard once it knows the framework's
name and has put the repository on its list of benchmarks; that page says where to ask for both.
"""

from collections.abc import Sequence
from typing import Final

from medmnist_hf.cards.metadata import check_manifests, describe_with_warning
from medmnist_hf.catalog import Subset
from medmnist_hf.hub.eval_results import MEASURES, TEST_SPLIT, task_id, to_yaml
from medmnist_hf.manifest import Manifest

EVAL_NAME: Final = "eval.yaml"

FRAMEWORK: Final = "medmnist"
"""What the file calls the official metric. The Hub keeps a list of such names, and this one has still to be added."""


def eval_yaml(subset: Subset, manifests: Sequence[Manifest] = ()) -> str:
    """The text of an ``eval.yaml``.

    Args:
        subset: A subset of the catalogue.
        manifests: Its built configs; none for all official sizes.

    Raises:
        BuildError: The manifests do not belong together, or not to this subset.
    """
    built = check_manifests(subset, manifests)
    sizes = [manifest.size for manifest in built] or subset.sizes
    tasks = [
        {"id": task_id(size, measure), "config": str(size), "split": TEST_SPLIT}
        for size in sizes
        for measure in MEASURES
    ]
    measured = f"AUC and ACC of the {TEST_SPLIT} split from 0 to 1, by the metric of the official MedMNIST evaluator."
    benchmark = {
        "name": subset.python_class,
        "description": f"{describe_with_warning(subset, built)} {measured}",
        "evaluation_framework": FRAMEWORK,
        "tasks": tasks,
    }
    return to_yaml(benchmark)
