"""Push the folder of the Space to the Hub: the page of this version, and the pictures that its record names."""

from functools import partial
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.constants import REPO_TYPE_SPACE

from medmnist_hf.errors import BuildError, cannot_read
from medmnist_hf.hub.commit import CommitOptions, Pushed, commit_plan
from medmnist_hf.hub.files import PushFile
from medmnist_hf.hub.plan import Change, FilePlan, changes_of, check_plan
from medmnist_hf.hub.repo_id import split_repo_id
from medmnist_hf.hub.tree import RemoteTree, read_tree
from medmnist_hf.manifest import Provenance
from medmnist_hf.space.record import PICTURES, RECORD_NAME, read_record
from medmnist_hf.space.site import page_files

_AGAIN = "write the folder again with medmnist-hf space"


def read_site(folder: Path, *, allow_synthetic: bool = False, allow_unverified: bool = False) -> dict[str, PushFile]:
    """Read and check the files of a folder of the Space.

    Args:
        folder: The folder, as written by `medmnist_hf.space.site.write_site`.
        allow_synthetic: Accept pictures of phantoms.
        allow_unverified: Accept pictures of files whose MD5 differs from the catalog.

    Returns:
        Path -> file, for the page, the record and the pictures that it names.

    Raises:
        BuildError: A file is missing, is a link or differs from the record, the page is of another version, or
            pictures need one of the flags.
    """
    record = read_record(folder)
    allowed = {
        Provenance.VERIFIED: (True, ""),
        Provenance.SYNTHETIC: (allow_synthetic, "--allow-synthetic"),
        Provenance.UNVERIFIED: (allow_unverified, "--allow-unverified"),
    }
    for pictures in record.pictures:
        is_allowed, flag = allowed[Provenance(pictures.provenance)]
        if not is_allowed:
            raise BuildError(
                f"{folder} shows {pictures.provenance} images of {pictures.subset}: leave them out, or pass {flag}"
            )
    digests = dict(record.boards)
    for pictures in record.pictures:
        digests |= pictures.files
    page = {path: content for path, content in page_files().items() if path not in record.boards}
    files = {}
    for path in (*page, RECORD_NAME, *digests):
        try:
            file = PushFile.picture(folder, path) if path.endswith(".png") else PushFile.document(folder, path)
        except OSError as error:
            raise BuildError(cannot_read(folder / path, error, _AGAIN)) from None
        if path in page and file.source != page[path]:
            raise BuildError(f"{folder / path} is not of this version of medmnist-hf: {_AGAIN}")
        if digests.get(path, file.sha256) != file.sha256:
            raise BuildError(f"{folder / path} differs from {RECORD_NAME}: {_AGAIN}")
        files[path] = file
    return files


def plan_space(api: HfApi, files: dict[str, PushFile], options: CommitOptions) -> FilePlan:
    """Compare the files with the Space, without changing anything; pictures that are no longer shown are removed.

    Args:
        api: The client.
        files: The files from `read_site`.
        options: Target and options.

    Raises:
        HubError: The Space cannot be read, is public although it should be private, or has the tag on another commit.
    """
    split_repo_id(options.repo_id)
    state = read_tree(api, options.repo_id, options.revision, repo_type=REPO_TYPE_SPACE, missing_ok=True)
    plan = _compare(files, state)
    check_plan(api, plan, private=options.private, tag=options.tag)
    return plan


def push_space(api: HfApi, plan: FilePlan, options: CommitOptions) -> Pushed:
    """Execute a plan, see `commit_plan`.

    Args:
        api: The client.
        plan: The plan from `plan_space`.
        options: The options of the plan.

    Raises:
        HubError: The Hub refuses or cannot be reached, or another push changed the same files.
    """
    read = partial(read_tree, api, options.repo_id, repo_type=REPO_TYPE_SPACE)
    return commit_plan(
        api,
        plan,
        options,
        title="Push the MedMNIST Space",
        compare=lambda: _compare(plan.files, read(options.revision)),
        read_back=read,
    )


def _compare(files: dict[str, PushFile], state: RemoteTree) -> FilePlan:
    changes = changes_of(files, state.files)
    old = [path for path in state.files if path.startswith(f"{PICTURES}/") and path not in files]
    changes += [Change(path, "removed", state.files[path].size) for path in old]
    return FilePlan(state, tuple(sorted(changes, key=lambda change: change.path)), files)
