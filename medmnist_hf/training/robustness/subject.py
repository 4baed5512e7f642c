"""The model whose robustness is measured: of a run, or any image classifier in the format of `transformers`."""

# Methods of transformers' classes are untyped.
# mypy: allow-untyped-calls

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from huggingface_hub import snapshot_download
from transformers import CONFIG_NAME, AutoConfig, AutoImageProcessor, TimmWrapperConfig

from medmnist_hf.catalog import Subset, subset
from medmnist_hf.corruptions.registry import corruptions
from medmnist_hf.embeddings.manifest import model_slug
from medmnist_hf.errors import TrainingError, cannot_read, first_line
from medmnist_hf.files import expand_user, sha256_of
from medmnist_hf.hub.client import apply_hub_limits
from medmnist_hf.manifest import Provenance
from medmnist_hf.training.models.from_transformers import check_config
from medmnist_hf.training.models.wrappers import NetworkConfig
from medmnist_hf.training.prediction.predict import LoadedModel, RunModels
from medmnist_hf.training.recipe import Recipe, make_recipe
from medmnist_hf.training.report.publishable import best_seed, shown_name
from medmnist_hf.training.results import RESULTS_NAME, check_complete, read_results
from medmnist_hf.training.run_folder import BEST, seed_folder

ENSEMBLE: Final = "ensemble"

_FILES: Final = ("*.json", "*.safetensors")
_RESAMPLE: Final = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""Number of Pillow's filter -> value of ``resize`` in a recipe."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model, or several whose scores are averaged.

    Attributes:
        title: Public name of the model.
        method: Method of its run; empty if it is not of a run.
        suffix: The seed, as ``seed0``, or ``ensemble``; empty if it is not of a run.
        recipe: What it reads, and how its outputs become scores.
        folders: Folders of the models.
        sizes: Edge length of the input of each.
        code: The function in a Python file that makes the network, if the run used one.
        trained_on: Provenance of the data it was trained on; None if unknown.
    """

    title: str
    method: str
    suffix: str
    recipe: Recipe
    folders: tuple[Path, ...]
    sizes: tuple[int, ...]
    code: str | None = None
    trained_on: Provenance | None = None

    @classmethod
    def of_run(
        cls, run: Path, *, seed: int | None = None, ensemble: bool = False, model_file: str | None = None
    ) -> "Subject":
        """The model of a run; arguments and errors as for `RunModels.of`, and its images must not be volumes."""
        models = RunModels.of(run, seed=seed, ensemble=ensemble, model_file=model_file)
        recipe, sizes = models.recipe, {each.seed: each.facts.image_size for each in models.result.seeds}
        return cls(
            shown_name(recipe.model),
            recipe.method,
            ENSEMBLE if ensemble else f"seed{models.seeds[0]}",
            recipe,
            tuple(seed_folder(run, each) / BEST for each in models.seeds),
            tuple(sizes[each] or recipe.input_size for each in models.seeds),
            models.code,
            models.result.provenance,
        )

    @classmethod
    def of_model(cls, name: str, flag: str, size: int) -> "Subject":
        """A model that was pushed from a run, or another image classifier with one output per class.

        Args:
            name: Its folder or repository on the Hub, with safetensors.
            flag: Flag of the subset that it was trained on.
            size: Size of the images it reads.

        Raises:
            CatalogError: MedMNIST-C has no corruptions for the subset.
            TrainingError: It cannot be read, was trained on another subset or size, or its outputs are not the
                classes of the subset.
        """
        corruptions(flag)
        folder, entry = _folder_of(name), subset(flag)
        if (folder / RESULTS_NAME).is_file():
            return _of_pushed(name, folder, entry, size)
        try:
            check_config(str(folder))
            config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            channels, edge, resize = _input_of(config, folder)
        except Exception as error:  # models differ in structure
            raise TrainingError(cannot_read(name, error, "name a folder or repository")) from None
        _check_classes(name, config, entry)
        options = {"image_size": edge, "resize": resize, "channels": channels if entry.channels == 1 else 3}
        recipe = make_recipe({"dataset": entry.flag, "size": size, "model": name, **options})
        return cls(shown_name(name), "", "", recipe, (folder,), (edge,))

    @property
    def architecture(self) -> str:
        """Name of the model in a file name."""
        return model_slug(self.title)

    @property
    def input(self) -> str:
        """What the model reads of an image, and in what precision."""
        recipe, sizes = self.recipe, " and ".join(map(str, dict.fromkeys(self.sizes)))
        return f"{sizes} pixels, resize {recipe.resize}, {recipe.input_channels} channels, {recipe.precision}"

    @property
    def digest(self) -> str:
        """SHA-256 over the weights, 64 hex digits.

        Raises:
            TrainingError: There are none.
        """
        files = [path for folder in self.folders for path in sorted(folder.glob("*.safetensors"))]
        if not files:
            raise TrainingError(f"{self.folders[0]} has no safetensors, and other weights are not read")
        return hashlib.sha256("".join(map(sha256_of, files)).encode()).hexdigest()

    def load(self, device: torch.device) -> list[LoadedModel]:
        """Load the models. Raises a `TrainingError` if one cannot be loaded."""
        return [
            LoadedModel.of(folder, self.recipe, device, size=size, code=self.code)
            for folder, size in zip(self.folders, self.sizes, strict=True)
        ]


def _of_pushed(name: str, folder: Path, entry: Subset, size: int) -> Subject:
    result = read_results(folder / RESULTS_NAME)
    check_complete(result)
    recipe, best = result.recipe, best_seed(result)
    if (recipe.dataset, recipe.size) != (entry.flag, size):
        raise TrainingError(
            f"{name} was trained on {recipe.dataset} at size {recipe.size}, not on {entry.flag} at size {size}: name "
            "what it was trained on"
        )
    edge = best.facts.image_size or recipe.input_size
    return Subject(
        shown_name(recipe.model),
        recipe.method,
        f"seed{best.seed}",
        recipe,
        (folder,),
        (edge,),
        trained_on=result.provenance,
    )


def _folder_of(name: str) -> Path:
    folder = expand_user(name)
    if folder.is_dir():
        if not (folder / CONFIG_NAME).is_file():
            raise TrainingError(f"{name} holds no model: name the folder of a model, or give that of a run with --run")
        return folder
    apply_hub_limits()
    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except Exception as error:  # the Hub's client raises many
        raise TrainingError(
            f"cannot get {name} from the Hub ({first_line(error)}): name a folder or repository"
        ) from None


def _input_of(config: Any, folder: Path) -> tuple[int, int, str]:
    """Channels, edge length and interpolation of a model's input."""
    if isinstance(config, NetworkConfig):
        transform = config.transform or {}
        return config.in_channels, transform["size"], transform.get("interpolation") or "none"
    if isinstance(config, TimmWrapperConfig):
        settings: Any = config.pretrained_cfg
        channels, edge, _ = settings["input_size"]
        return 1 if channels == 1 else 3, edge, settings.get("interpolation", "bicubic")
    processor: Any = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
    size = processor.size
    edge = size.get("height") or size.get("shortest_edge") if hasattr(size, "get") else size
    channels = getattr(config, "num_channels", 3)
    return 1 if channels == 1 else 3, int(edge), _RESAMPLE.get(int(processor.resample), "bilinear")


def _check_classes(name: str, config: Any, entry: Subset) -> None:
    names, labels = [str(config.id2label[at]) for at in sorted(config.id2label)], list(entry.labels)
    if len(names) != len(labels):
        raise TrainingError(
            f"{name} has {len(names)} outputs, but {entry.flag} has {len(labels)} classes: name a model of this subset"
        )
    if names != labels and sorted(names) == sorted(labels):
        raise TrainingError(f"{name} has the classes of {entry.flag} in another order: reorder its outputs")
