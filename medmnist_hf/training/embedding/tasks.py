"""Feature stores as tasks of an engine, each the command ``medmnist-hf embed`` for one data set, size and model.

Example:
    >>> tasks = dict(zip(recipes, store_tasks(recipes, root), strict=True))  # doctest: +SKIP
    >>> run_tasks(TaskFolder(tasks_path(root, model)), list(tasks.values()), engine)  # doctest: +SKIP
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from medmnist_hf.data.configs import BuiltConfig, open_config
from medmnist_hf.embeddings.manifest import StoreManifest, model_slug
from medmnist_hf.embeddings.stores import check_data, damaged_shard, find_store
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.jobs.tasks import JOBS_DIR, Task, unique_names
from medmnist_hf.training.recipe import FIELDS, Recipe

OPTIONS: Final = (
    *("pretrained", "checkpoint", "stem", "volumetric", "depth_stride", "slice_pooling"),
    *("image_size", "resize", "channels", "normalize", "intensity_scale", "batch_size"),
)
"""Options of a recipe, next to its data and model, that define features."""

_VERB: Final = "embed"


def tasks_path(root: Path, model: str, work: str = _VERB) -> Path:
    """The folder of the tasks that store or verify features of a model, within the folder of stores."""
    return root / JOBS_DIR / f"{work}-{model_slug(model)}"


def config_of(recipe: Recipe) -> BuiltConfig:
    """The build that a recipe names; errors as for `open_config`."""
    return open_config(recipe.source, recipe.config, recipe.root, revision=recipe.revision)


def store_tasks(recipes: Sequence[Recipe], root: Path, *extra: str, has_result: bool = False) -> list[Task]:
    """One task per recipe, named by subset and size, that makes its store or leaves a complete one.

    Args:
        recipes: They name data, model and input.
        root: Absolute path of the folder of stores, as the machines of the engine see it.
        *extra: Further options of the command, such as ``--dtype`` and ``float16``.
        has_result: Whether standard output is a result of its own, as for ``--verify``.
    """
    make = Task.with_result if has_result else Task.of
    names = unique_names([f"{recipe.dataset}-{recipe.size}" for recipe in recipes])
    tasks = [
        make(name, "python", "-m", "medmnist_hf", _VERB, *_arguments(recipe), "--out", str(root), *extra)
        for name, recipe in zip(names, recipes, strict=True)
    ]
    # Names of data, models and weights may be relative to the working folder.
    return [replace(task, cwd=str(Path.cwd())) for task in tasks]


def _arguments(recipe: Recipe) -> list[str]:
    arguments = [recipe.source, "--size", str(recipe.size), "--model", recipe.model]
    for name in ("root", "revision", *OPTIONS):
        value, option = getattr(recipe, name), name.replace("_", "-")
        if value == FIELDS[name].default:
            continue
        arguments += (
            [f"--{'' if value else 'no-'}{option}"] if isinstance(value, bool) else [f"--{option}", str(value)]
        )
    return arguments


def stored(recipe: Recipe, root: Path) -> StoreManifest | None:
    """The manifest of the store of a recipe if it is complete and of the images that are there now.

    Whether it is of the same weights and input is not checked, since that takes the model.
    """
    try:
        images = config_of(recipe)
        folder, manifest = find_store(root, recipe.subset, recipe.size, recipe.model)
        check_data(folder, manifest, images.manifest, images.where)
    except MedMNISTError:
        return None
    complete = manifest.images_id == images.manifest.content_id and not damaged_shard(folder, manifest)
    return manifest if complete else None
