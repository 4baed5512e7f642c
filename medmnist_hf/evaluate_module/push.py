"""The `evaluate` module on the Hub: its folder compared with a Space, pushed in one commit, checked, then tagged."""

from typing import Final

from huggingface_hub import CommitOperationAdd, HfApi, RepoCard

from medmnist_hf.errors import BuildError, HubError
from medmnist_hf.evaluate_module import FOLDER
from medmnist_hf.hub.client import patiently, require_token
from medmnist_hf.hub.dataset_push import Pushed, set_tag
from medmnist_hf.hub.files import held
from medmnist_hf.hub.plan import FilePlan, changes_of, check_plan
from medmnist_hf.hub.tree import RemoteTree, read_tree
from medmnist_hf.manifest import README_NAME

KIND: Final = "space"
"""Where ``evaluate.load("NAMESPACE/NAME")`` looks for ``NAME.py``."""


def plan_metric(api: HfApi, repo_id: str, *, private: bool = False, tag: str | None = None) -> FilePlan:
    """Compare the module with the Space it is to go to; nothing is changed. Other files there stay.

    Args:
        api: The client.
        repo_id: ``namespace/medmnist``.
        private: The Space is or will be private.
        tag: Tag to be set.

    Raises:
        BuildError: The name is one by which `evaluate` would not find the module.
        HubError: The Space cannot be read, is public and should not be, or has the tag on another commit.
    """
    namespace, _, name = repo_id.partition("/")
    if not namespace or name != FOLDER.name:
        raise BuildError(
            f"{repo_id!r} is no repository for the metric: name it NAMESPACE/{FOLDER.name}, "
            "so that evaluate.load finds its module"
        )
    plan = _compare(read_tree(api, repo_id, kind=KIND, may_lack=True))
    check_plan(api, plan, private=private, tag=tag, kind=KIND)
    return plan


def push_metric(
    api: HfApi, plan: FilePlan, *, private: bool = False, tag: str | None = None, message: str | None = None
) -> Pushed:
    """Carry a plan out in one commit, and check what is on the Hub then, file by file.

    Args:
        api: The client.
        plan: As it was shown.
        private: A Space that is made is private.
        tag: Tag to set once all is checked; None for none.
        message: Title of the commit.

    Raises:
        HubError: The Hub refuses or cannot be reached, or somebody else has pushed meanwhile.
    """
    require_token(api)
    repo_id, sha = plan.state.repo_id, plan.state.sha
    if not plan.empty:
        sha = _commit(api, plan, private, message or "Push the MedMNIST metric")
    state = read_tree(api, repo_id, sha, kind=KIND)
    for path, file in plan.files.items():
        if not state.holds(path, file):
            raise HubError(f"{repo_id} has another {path} than was pushed: run again")
    if tag:
        set_tag(api, repo_id, tag, sha, KIND)
    return Pushed(repo_id, sha, not plan.empty, "", ())


def _compare(state: RemoteTree) -> FilePlan:
    paths = sorted(path for path in FOLDER.glob("[!.]*") if path.is_file())
    files = {path.name: held(path.read_bytes()) for path in paths}
    return FilePlan(state, tuple(changes_of(files, state.files)), files)


def _commit(api: HfApi, plan: FilePlan, private: bool, message: str) -> str:
    """Make the commit on top of the one that was planned for; its SHA."""
    repo_id = plan.state.repo_id
    card = RepoCard((FOLDER / README_NAME).read_text(encoding="utf-8"))
    patiently(f"push the card of {repo_id}", lambda: card.validate(repo_type=KIND))
    if not plan.state.exists:
        sdk = card.data["sdk"]
        patiently(
            f"make {repo_id}",
            lambda: api.create_repo(repo_id, repo_type=KIND, space_sdk=sdk, private=private, exist_ok=True),
        )
        plan = _compare(read_tree(api, repo_id, kind=KIND))
    made = patiently(
        f"push to {repo_id}",
        lambda: api.create_commit(
            repo_id,
            [CommitOperationAdd(path, plan.files[path].source) for path in plan.paths("new", "changed")],
            commit_message=message,
            repo_type=KIND,
            parent_commit=plan.state.sha,
        ),
    )
    return str(made.oid)
