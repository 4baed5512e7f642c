"""Plan a push: merge a build with the configs that stay on the Hub and compare the result with the repository."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from huggingface_hub import HfApi, get_token

from medmnist_hf.catalog import Subset
from medmnist_hf.errors import BuildError, HubError
from medmnist_hf.hub.commit import CommitOptions
from medmnist_hf.hub.dataset_state import RemoteState, card_head, config_of, read_state, store_of, with_stores
from medmnist_hf.hub.files import PushFile
from medmnist_hf.hub.local_build import LocalBuild, parse_findings
from medmnist_hf.hub.plan import ATTRIBUTES_NAME, Change, FilePlan, changes_of, check_plan
from medmnist_hf.hub.pull_requests import PullRequest, open_pull_requests
from medmnist_hf.hub.repo_id import split_repo_id
from medmnist_hf.manifest import PICTURES, README_NAME, Manifest, Provenance, in_order

Describe = Callable[[Subset, Sequence[Manifest], Mapping[str, Sequence[str]]], Mapping[str, str]]
"""Maps a subset, the manifests of all its configs and the findings of their audits by config name to the text files
next to the configs, by path; they include ``README.md``."""


@dataclass(frozen=True, slots=True)
class PushOptions(CommitOptions):
    """Where and how a build is pushed; the repository is named after the subset.

    Attributes:
        prune: Remove files from the repository that the build lacks.
    """

    prune: bool = False


@dataclass(frozen=True, slots=True)
class Plan(FilePlan):
    """Changes that a push would make to a data set's repository.

    Attributes:
        configs: Names of the configs after the push.
        pull_requests: The user's open pull requests, if the push is to open one.
    """

    state: RemoteState
    configs: tuple[str, ...]
    pull_requests: tuple[PullRequest, ...] = ()

    @property
    def proposed(self) -> PullRequest | None:
        """The open pull request with exactly these changes."""
        return next((request for request in self.pull_requests if request.same), None)

    def lines(self) -> Iterator[str]:
        """Yield the lines of `FilePlan.lines`, then the configs and the open pull requests."""
        yield from super(Plan, self).lines()
        yield f"configs after the push: {', '.join(self.configs)}"
        yield from map(str, self.pull_requests)


def plan_push(api: HfApi, build: LocalBuild, options: PushOptions, describe: Describe) -> Plan:
    """Compare a build with its repository on the Hub without changing anything.

    Args:
        api: The client.
        build: A checked build.
        options: Where and how to push.
        describe: Renders the card and the other files next to the configs.

    Raises:
        BuildError: The options contradict each other or do not suit the build.
        HubError: The repository cannot be read, or holds files that a push must not touch.
        VerificationError: The card that would be pushed is not valid.
    """
    split_repo_id(options.repo_id, build.subset.flag, "load_dataset and medmnist_hf.load")
    check_options(options)
    state = read_state(api, options.repo_id, options.revision, missing_ok=True)
    return checked_plan(api, compare(state, build, options, describe), options)


def checked_plan(api: HfApi, plan: Plan, options: PushOptions) -> Plan:
    """Check a plan against the repository's visibility and tags, and find the user's open pull requests.

    Raises:
        HubError: The plan is refused, or the Hub cannot be read.
    """
    state = plan.state
    check_plan(api, plan, private=options.private, tag=options.tag)
    if options.create_pr and state.exists and not plan.empty and (api.token or get_token()):
        removed = plan.paths("removed")
        return replace(
            plan, pull_requests=open_pull_requests(api, options.repo_id, options.revision, plan.files, removed)
        )
    return plan


def check_options(options: CommitOptions) -> None:
    """Check that options do not contradict each other.

    Raises:
        BuildError: They do.
    """
    if options.create_pr and options.tag:
        raise BuildError("a pull request cannot be tagged: merge it, then push again with --tag")


def compare(state: RemoteState, build: LocalBuild, options: PushOptions, describe: Describe) -> Plan:
    """Compare a build with the state of a repository; arguments and errors as in `plan_push`."""
    pushed_configs = {manifest.config_name for manifest in build.manifests}
    check_stores(state, build.subset.flag)
    if not options.prune:
        check_existing_files(state, build.subset.flag, pushed_configs)
    kept = [] if options.prune else [config for config in state.manifests if config.config_name not in pushed_configs]
    union = in_order((*build.manifests, *kept))
    audits = {name: content for name, content in state.audits.items() if name not in pushed_configs} | build.audits
    findings = {
        name: parse_findings(audits[name], f"the audit of {state.repo_id} {name}")
        for name in (manifest.config_name for manifest in union)
        if name in audits
    }
    texts = dict(describe(build.subset, union, findings))
    default = _check_card(texts[README_NAME], union, state.repo_id)
    if state.stores:
        texts[README_NAME] = with_stores(texts[README_NAME], state.card, state.repo_id)
    files = build.files | {path: PushFile.from_bytes(text.encode()) for path, text in texts.items()}
    for path, picture in build.pictures.items():
        # The picture must show the default config of the card.
        if default in pushed_configs or path not in state.files:
            files[path] = picture
    changes = changes_of(files, state.files)
    for path, file in state.files.items():
        kept_file = path == ATTRIBUTES_NAME or store_of(path) in state.stores
        removable = config_of(path) in pushed_configs or (options.prune and not kept_file)
        keeps_picture = options.prune and path in PICTURES.values() and not build.pictures
        if removable and path not in files and not keeps_picture:
            changes.append(Change(path, "removed", file.size))
    ordered = tuple(sorted(changes, key=lambda change: change.path))
    return Plan(state, ordered, files, (*(manifest.config_name for manifest in union), *state.stores))


def check_stores(state: RemoteState, flag: str) -> None:
    """Check that all feature stores of a repository are of a subset; a push of images keeps them.

    Raises:
        HubError: One is of another subset.
    """
    for name, store in state.stores.items():
        if store.subset != flag:
            raise HubError(f"{state.repo_id} holds features of {store.subset} in {name}: push to another repository")


def check_existing_files(state: RemoteState, flag: str, pushed: Set[str]) -> None:
    """Check that the files that stay in a repository were pushed by this project.

    Args:
        state: The repository.
        flag: The subset that is pushed.
        pushed: Names of the configs that are pushed.

    Raises:
        HubError: It holds another subset or other files.
    """
    for manifest in state.manifests:
        if manifest.entry.base != flag:
            raise HubError(
                f"{state.repo_id} holds {manifest.subset}: push to another repository, or pass --prune to replace it"
            )
    known = {manifest.config_name for manifest in state.manifests} | state.stores.keys() | pushed
    for path in sorted(state.files):
        config = config_of(path) or store_of(path)
        if (path.endswith(".parquet") and config not in known) or path.endswith(".py"):
            raise HubError(
                f"{state.repo_id} has {path}, which was not pushed by medmnist-hf: remove it, or pass --prune"
            )


def _check_card(card: str, manifests: Sequence[Manifest], repo_id: str) -> str:
    """Check that a card matches its manifests and return the name of its default config."""
    where = f"the push to {repo_id}"
    head = card_head(card, where)
    names = [config["config_name"] for config in head["configs"]]
    default = [config["config_name"] for config in head["configs"] if config.get("default")]
    if names != [manifest.config_name for manifest in manifests] or len(default) != 1:
        raise BuildError(f"{where} has a card whose configs differ from its manifests: render it again")
    if any(manifest.source.synthetic for manifest in manifests) and "synthetic" not in (head.get("tags") or []):
        raise BuildError(f"{where} has synthetic rows and a card that does not say so: render it again")
    unverified = any(manifest.source.provenance is Provenance.UNVERIFIED for manifest in manifests)
    if unverified and "unverified" not in card:
        raise BuildError(f"{where} has unverified rows and a card that does not say so: render it again")
    return str(default[0])
