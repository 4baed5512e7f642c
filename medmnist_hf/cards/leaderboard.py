"""``eval.yaml`` of a data set repository: the tasks for which models report results, one per size and measure.

The format: https://huggingface.co/docs/hub/eval-results. The Hub shows a leaderboard once it has registered the
framework's name and listed the repository as a benchmark; that page says how to request both.
"""

from collections.abc import Sequence
from typing import Final

from medmnist_hf.cards.metadata import check_manifests, describe_with_warning
from medmnist_hf.catalog import Subset
from medmnist_hf.hub.eval_results import MEASURES, TEST_SPLIT, task_id, to_yaml
from medmnist_hf.manifest import Manifest

EVAL_NAME: Final = "eval.yaml"

FRAMEWORK: Final = "medmnist"
"""Name of the official metric in the file. The Hub keeps a list of known names, which does not include it yet."""


def eval_yaml(subset: Subset, manifests: Sequence[Manifest] = ()) -> str:
    """Render the text of an ``eval.yaml``.

    Args:
        subset: A subset of the catalog.
        manifests: Manifests of its built configs; without any, all official sizes are listed.

    Raises:
        BuildError: The manifests do not belong together, or not to this subset.
    """
    built = check_manifests(subset, manifests)
    configs = [manifest.config_name for manifest in built] or map(str, subset.sizes)
    tasks = [
        {"id": task_id(config, measure), "config": config, "split": TEST_SPLIT}
        for config in configs
        for measure in MEASURES
    ]
    measures = f"AUC and ACC on the {TEST_SPLIT} split, from 0 to 1, as computed by the official MedMNIST evaluator."
    benchmark = {
        "name": subset.python_class,
        "description": f"{describe_with_warning(subset, built)} {measures}",
        "evaluation_framework": FRAMEWORK,
        "tasks": tasks,
    }
    return to_yaml(benchmark)
