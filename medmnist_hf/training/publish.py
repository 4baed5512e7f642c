"""Push the model of a run to the Hub: weights, card, results, predictions and figures in one commit."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from huggingface_hub import HfApi
from huggingface_hub.constants import REPO_TYPE_MODEL
from transformers import CONFIG_NAME

from medmnist_hf.errors import HubError, TrainingError, first_line
from medmnist_hf.hub.client import MAIN, call_with_retries, require_token
from medmnist_hf.hub.commit import CommitOptions, Pushed, commit_plan
from medmnist_hf.hub.eval_results import RESULTS_PATH, results_yaml
from medmnist_hf.hub.files import PushFile
from medmnist_hf.hub.plan import ATTRIBUTES_NAME, Change, FilePlan, changes_of, check_plan
from medmnist_hf.hub.repo_id import split_repo_id
from medmnist_hf.hub.tree import RemoteTree, read_tree
from medmnist_hf.manifest import README_NAME
from medmnist_hf.training.recipe import RECIPE_NAME, Recipe
from medmnist_hf.training.registry import METHODS, method
from medmnist_hf.training.report.model_card import model_card
from medmnist_hf.training.report.publishable import FIGURES, best_seed, model_result, portable, repository
from medmnist_hf.training.results import RESULTS_NAME, check_complete, read_results
from medmnist_hf.training.run_folder import BEST, seed_folder

PREDICTIONS: Final = "predictions"
"""Folder of the prediction files in the repository."""

_MODEL: Final = (".json", ".safetensors")
"""Suffixes of model files to push; other weights formats may contain code and are not pushed."""


def check_push(api: HfApi, recipe: Recipe, repo_id: str, *, revision: str = MAIN, private: bool = False) -> None:
    """Check before training that the model can be pushed afterwards.

    Args:
        api: Hub client.
        recipe: The recipe to run.
        repo_id: As in `push_model`.
        revision: As in `push_model`.
        private: As in `push_model`.

    Raises:
        TrainingError: The run leaves no model.
        HubError: The name is not valid, there is no token with write access, or the repository cannot take the model.
    """
    if not method(recipe.method).leaves_model:
        names = ", ".join(name for name, other in METHODS.items() if other.leaves_model)
        raise TrainingError(f"method {recipe.method} leaves no model to push: use {names}, or do not push")
    if recipe.scores_only:
        raise TrainingError("scores_only leaves no model to push: leave it out, or do not push")
    _repository(api, repo_id, revision, private)
    token = call_with_retries("ask the Hub about the token", api.whoami).get("auth", {}).get("accessToken", {})
    if token.get("role") == "read":
        raise HubError(f"the token is read-only: use one with write access to {repo_id}")


def push_model(
    api: HfApi,
    run: Path,
    repo_id: str,
    *,
    revision: str = MAIN,
    private: bool = False,
    references: Sequence[str] = (),
) -> Pushed:
    """Push the model of the seed that is best on validation. If the repository is up to date, nothing is committed.

    Model, predictions, figures and evaluation results of an earlier push are replaced or removed; other files in the
    repository stay. Scores are added to the metadata and the evaluation results only for official data.

    Args:
        api: Hub client.
        run: Folder of a run.
        repo_id: ``namespace/name``.
        revision: Branch; created from the main branch if missing.
        private: Create a private repository; an existing one must be private.
        references: BibTeX entries for the card.

    Raises:
        TrainingError: The run is not finished or has no model, or a file is a link or a figure not a PNG image.
        HubError: The Hub refuses the push or cannot be reached, the repository holds other files or is public despite
            `private`, or another push changed the same files.
    """
    files = local_files(run, repo_id, references)
    read = partial(read_tree, api, repo_id, repo_type=REPO_TYPE_MODEL)
    return commit_plan(
        api,
        plan_model(_repository(api, repo_id, revision, private), files),
        CommitOptions(repo_id, revision, private),
        title="Push a model trained on MedMNIST",
        compare=lambda: plan_model(read(revision), files),
        read_back=read,
    )


def local_files(run: Path, repo_id: str, references: Sequence[str] = ()) -> dict[str, PushFile]:
    """The files of a run to push, by path in the repository.

    Arguments and errors are those of `push_model`.
    """
    if not (run / RESULTS_NAME).is_file():
        raise TrainingError(f"{run} holds no finished run: run the same command again to resume it")
    result = read_results(run / RESULTS_NAME)
    check_complete(result)
    seed = seed_folder(run, best_seed(result).seed)
    model = seed / BEST
    if not (model / CONFIG_NAME).is_file():
        raise TrainingError(f"{run} has no model to push: {result.recipe.method} leaves none")
    public_result = portable(result)
    card = model_card(model, result, where=repo_id, figures=FIGURES, references=references)
    texts = {README_NAME: card, RESULTS_NAME: public_result.to_json(), RECIPE_NAME: public_result.recipe.to_yaml()}
    official = model_result(result)
    if official is not None:
        texts[RESULTS_PATH] = results_yaml(official, repository(result.recipe))
    files = {path: PushFile.from_bytes(text.encode()) for path, text in texts.items()}
    try:
        for path in sorted(model.iterdir()):
            if path.suffix in _MODEL:
                files[path.name] = PushFile.from_folder(run, f"{seed.name}/{BEST}/{path.name}")
        for path in sorted(seed.glob("*.csv")):
            files[f"{PREDICTIONS}/{path.name}"] = PushFile.from_folder(run, f"{seed.name}/{path.name}")
        for path in sorted((seed / FIGURES).glob("*.png")):
            files[f"{FIGURES}/{path.name}"] = PushFile.picture(run, f"{seed.name}/{FIGURES}/{path.name}")
    except OSError as error:
        raise TrainingError(f"cannot push {error.filename} ({first_line(error)}): remove it, or run again") from None
    return files


def plan_model(state: RemoteTree, files: dict[str, PushFile]) -> FilePlan:
    """Plan the changes that bring a repository to the given files.

    Args:
        state: The repository as it is now.
        files: Path -> wanted file.

    Raises:
        HubError: The repository holds files that were not pushed from a run.
    """
    if not {RESULTS_NAME, RECIPE_NAME} <= state.files.keys() and state.files.keys() - {ATTRIBUTES_NAME, README_NAME}:
        raise HubError(f"{state.repo_id} holds files that were not pushed from a run: name another repository")
    managed = (f"{PREDICTIONS}/", f"{FIGURES}/", RESULTS_PATH)
    removals = [
        Change(path, "removed", file.size)
        for path, file in state.files.items()
        if path not in files and (path.startswith(managed) or ("/" not in path and path.endswith(_MODEL)))
    ]
    changes = sorted((*changes_of(files, state.files), *removals), key=lambda change: change.path)
    return FilePlan(state, tuple(changes), files)


def _repository(api: HfApi, repo_id: str, revision: str, private: bool) -> RemoteTree:
    """Read the repository and check that it can take a model."""
    split_repo_id(repo_id)
    require_token(api)
    state = read_tree(api, repo_id, revision, repo_type=REPO_TYPE_MODEL, missing_ok=True)
    check_plan(api, plan_model(state, {}), private=private, tag=None)
    return state
