"""Push the `evaluate` module to a Space on the Hub."""

from functools import partial

from huggingface_hub import HfApi
from huggingface_hub.constants import REPO_TYPE_SPACE

from medmnist_hf.errors import BuildError, first_line
from medmnist_hf.evaluate_module import FOLDER
from medmnist_hf.hub.commit import CommitOptions, Pushed, commit_plan
from medmnist_hf.hub.files import PushFile
from medmnist_hf.hub.plan import FilePlan, changes_of, check_plan
from medmnist_hf.hub.repo_id import split_repo_id
from medmnist_hf.hub.tree import RemoteTree, read_tree


def plan_metric(api: HfApi, options: CommitOptions) -> FilePlan:
    """Compare the module with its Space, without changing anything. Other files in the Space are kept.

    Args:
        api: The client.
        options: Target and options; ``evaluate.load("NAMESPACE/medmnist")`` looks for ``medmnist.py`` in that Space.

    Raises:
        BuildError: A file of the module cannot be read, or is a link.
        HubError: `evaluate` would not find the module by that name; or the Space cannot be read, is public although
            it should be private, or has the tag on another commit.
    """
    split_repo_id(options.repo_id, FOLDER.name, "evaluate.load")
    plan = _compare(read_tree(api, options.repo_id, options.revision, repo_type=REPO_TYPE_SPACE, missing_ok=True))
    check_plan(api, plan, private=options.private, tag=options.tag)
    return plan


def push_metric(api: HfApi, plan: FilePlan, options: CommitOptions) -> Pushed:
    """Execute a plan, see `commit_plan`.

    Args:
        api: The client.
        plan: The plan from `plan_metric`.
        options: The options of the plan.

    Raises:
        HubError: The Hub refuses or cannot be reached, or another push changed the same files.
    """
    read = partial(read_tree, api, options.repo_id, repo_type=REPO_TYPE_SPACE)
    return commit_plan(
        api,
        plan,
        options,
        title="Push the MedMNIST metric",
        compare=lambda: _compare(read(options.revision)),
        read_back=read,
    )


def _compare(state: RemoteTree) -> FilePlan:
    names = sorted(path.name for path in FOLDER.glob("[!.]*") if not path.is_dir())
    try:
        files = {name: PushFile.document(FOLDER, name) for name in names}
    except OSError as error:
        raise BuildError(f"cannot push {error.filename} ({first_line(error)}): install medmnist-hf again") from None
    return FilePlan(state, tuple(changes_of(files, state.files)), files)
