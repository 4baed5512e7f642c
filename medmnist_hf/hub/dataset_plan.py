"""What a push would change: a build and what stays on the Hub put together, and compared with what is there."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from huggingface_hub import HfApi, get_token

from medmnist_hf.catalog import Subset
from medmnist_hf.errors import BuildError, HubError
from medmnist_hf.hub.commit import CommitOptions
from medmnist_hf.hub.dataset_state import RemoteState, card_head, config_of, read_state
from medmnist_hf.hub.files import PushFile
from medmnist_hf.hub.local_build import LocalBuild, parse_findings
from medmnist_hf.hub.plan import ATTRIBUTES_NAME, Change, FilePlan, changes_of, check_plan
from medmnist_hf.hub.pull_requests import PullRequest, open_pull_requests
from medmnist_hf.hub.repo_id import split_repo_id
from medmnist_hf.manifest import PICTURES, README_NAME, Manifest

Describe = Callable[[Subset, Sequence[Manifest], Mapping[str, Sequence[str]]], Mapping[str, str]]
"""Called with a subset, the manifests of all configs to be described and their audits' findings by config name; gives
path -> text of the files beside the configs, ``README.md`` among them."""


@dataclass(frozen=True, slots=True)
class PushOptions(CommitOptions):
    """Where and how a build is pushed; the repository has the flag of the subset as its name.

    Attributes:
        prune: Remove what the build lacks.
    """

    prune: bool = False


@dataclass(frozen=True, slots=True)
class Plan(FilePlan):
    """What a push would do to a data set's repository as it stands.

    Attributes:
        configs: Names of the configs that are there afterwards.
        pull_requests: Those of one's own that are open, where another is asked for.
    """

    state: RemoteState
    configs: tuple[str, ...]
    pull_requests: tuple[PullRequest, ...] = ()

    @property
    def proposed(self) -> PullRequest | None:
        """The open pull request that proposes just this."""
        return next((request for request in self.pull_requests if request.same), None)

    def lines(self) -> Iterator[str]:
        """As for any repository, then the configs and the open pull requests."""
        yield from super(Plan, self).lines()
        yield f"configs afterwards: {', '.join(self.configs)}"
        for request in self.pull_requests:
            yield f"{request.url} is open with {'just this' if request.same else 'other content'}"


def plan_push(api: HfApi, build: LocalBuild, options: PushOptions, describe: Describe) -> Plan:
    """Compare a build with the repository it is to go to; nothing is changed.

    Args:
        api: The client.
        build: A checked build.
        options: Where and how.
        describe: Writes the card and what else lies beside the configs.

    Raises:
        BuildError: The options do not fit each other or the build.
        HubError: The repository cannot be read, or holds what a push must not touch.
        VerificationError: The card that would be pushed is not valid.
    """
    _check_options(build, options)
    state = read_state(api, options.repo_id, options.revision, missing_ok=True)
    plan = compare(state, build, options, describe)
    check_plan(api, plan, private=options.private, tag=options.tag)
    if options.create_pr and state.exists and not plan.empty and (api.token or get_token()):
        removed = plan.paths("removed")
        return replace(
            plan, pull_requests=open_pull_requests(api, options.repo_id, options.revision, plan.files, removed)
        )
    return plan


def _check_options(build: LocalBuild, options: PushOptions) -> None:
    split_repo_id(options.repo_id, build.subset.flag, "load_dataset and medmnist_hf.load")
    if options.create_pr and options.tag:
        raise BuildError("a pull request cannot be tagged: merge it, then push again with --tag")


def compare(state: RemoteState, build: LocalBuild, options: PushOptions, describe: Describe) -> Plan:
    """Compare a build with a repository as it was read; arguments and errors as in `plan_push`."""
    ours = {manifest.config_name for manifest in build.manifests}
    _check_theirs(state, build, ours, options)
    staying = [] if options.prune else [one for one in state.manifests if one.config_name not in ours]
    union = sorted((*build.manifests, *staying), key=lambda manifest: manifest.size)
    audits = {name: content for name, content in state.audits.items() if name not in ours} | build.audits
    findings = {
        name: parse_findings(audits[name], f"the audit of {state.repo_id} {name}")
        for name in (manifest.config_name for manifest in union)
        if name in audits
    }
    texts = describe(build.subset, union, findings)
    default = _check_card(texts[README_NAME], union, state.repo_id)
    files = build.files | {path: PushFile.from_bytes(text.encode()) for path, text in texts.items()}
    for path, picture in build.pictures.items():
        # A card shows its default config, and so must the picture.
        if default in ours or path not in state.files:
            files[path] = picture
    changes = changes_of(files, state.files)
    for path, file in state.files.items():
        within = config_of(path) in ours or (options.prune and path != ATTRIBUTES_NAME)
        if within and path not in files and not (options.prune and path in PICTURES.values() and not build.pictures):
            changes.append(Change(path, "removed", file.size))
    ordered = tuple(sorted(changes, key=lambda change: change.path))
    return Plan(state, ordered, files, tuple(manifest.config_name for manifest in union))


def _check_theirs(state: RemoteState, build: LocalBuild, ours: set[str], options: PushOptions) -> None:
    """What is there already and stays must be what this project pushed."""
    if options.prune:
        return
    for manifest in state.manifests:
        if manifest.subset != build.subset.flag:
            raise HubError(f"{state.repo_id} holds {manifest.subset}: push to another, or pass --prune")
    described = {manifest.config_name for manifest in state.manifests} | ours
    for path in sorted(state.files):
        if (path.endswith(".parquet") and config_of(path) not in described) or path.endswith(".py"):
            raise HubError(f"{state.repo_id} has {path}, which no push made: remove it, or pass --prune")


def _check_card(card: str, manifests: Sequence[Manifest], repo_id: str) -> str:
    """Prove a card fit to be pushed; name of its default config."""
    where = f"the push to {repo_id}"
    head = card_head(card, where)
    names = [config["config_name"] for config in head["configs"]]
    default = [config["config_name"] for config in head["configs"] if config.get("default")]
    if names != [manifest.config_name for manifest in manifests] or len(default) != 1:
        raise BuildError(f"{where} has a card of other configs than its manifests: render it again")
    if any(one.source.synthetic for one in manifests) and "synthetic" not in (head.get("tags") or []):
        raise BuildError(f"{where} has synthetic rows and a card that does not say so: render it again")
    unverified = any(not one.source.verified and not one.source.synthetic for one in manifests)
    if unverified and "unverified" not in card:
        raise BuildError(f"{where} has unverified rows and a card that does not say so: render it again")
    return str(default[0])
