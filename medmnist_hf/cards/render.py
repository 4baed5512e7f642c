"""Render data set cards: the README of a subset, and the files that accompany it in the folder of a build.

Every figure on a card comes from the catalog, a manifest or the published results; templates contain none.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import jinja2

from medmnist_hf import catalog
from medmnist_hf.cards.context import context, picture_name
from medmnist_hf.cards.croissant import CROISSANT_NAME, croissant, to_json
from medmnist_hf.cards.environment import environment
from medmnist_hf.cards.leaderboard import EVAL_NAME, eval_yaml
from medmnist_hf.cards.metadata import card_data, check_manifests, default_config
from medmnist_hf.catalog import NAMESPACE, SPLITS, Subset
from medmnist_hf.errors import BuildError, cannot_write, is_read_only
from medmnist_hf.exporting.montage import draw_sample
from medmnist_hf.files import read_document, sole_process, write_atomically
from medmnist_hf.hub.local_build import parse_findings
from medmnist_hf.manifest import AUDIT_NAME, README_NAME, WORK_DIR, Manifest, read_build


def card(
    subset: Subset,
    manifests: Sequence[Manifest] = (),
    *,
    repo_id: str | None = None,
    audits: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Render the card of a subset.

    Args:
        subset: A subset of the catalog.
        manifests: Manifests of its built configs. Without any, the card describes all published sizes and has no
            picture and no byte counts.
        repo_id: Hub repository that the examples load, ``user/name``; None for the official one of the subset.
        audits: Config name -> findings of its audit, one line each.

    Returns:
        The text of a ``README.md``: YAML between dashes, then Markdown. The same arguments give the same text.

    Raises:
        BuildError: The manifests do not belong together, or not to this subset.
    """
    built = check_manifests(subset, manifests)
    body = (
        _environment()
        .get_template("card.md.j2")
        .render(context(subset, built, repo_id or f"{NAMESPACE}/{subset.flag}", audits or {}))
    )
    return f"---\n{card_data(subset, built).to_yaml()}\n---\n\n{body}"


def describe(
    subset: Subset,
    manifests: Sequence[Manifest],
    audits: Mapping[str, Sequence[str]],
    *,
    repo_id: str | None = None,
    tasks: bool = True,
) -> dict[str, str]:
    """Render the text files that accompany built configs: path -> text, with the card last.

    Arguments and errors are those of `card`. If `tasks` is false, ``eval.yaml`` is left out.
    """
    texts = {CROISSANT_NAME: to_json(croissant(subset, manifests))}
    if tasks:
        texts[EVAL_NAME] = eval_yaml(subset, manifests)
    texts[README_NAME] = card(subset, manifests, repo_id=repo_id, audits=audits)
    return texts


def write_card(subset_dir: Path) -> Path:
    """Write the picture, Croissant description, ``eval.yaml`` and card of a build, each atomically.

    Reads the manifests, existing audits, and one row group of the first train shard of the default config.

    Args:
        subset_dir: Folder of one subset, as written by ``medmnist-hf build``.

    Returns:
        Path of the ``README.md``.

    Raises:
        BuildError: The folder has no built config, the build is damaged, or the folder is not writable.
    """
    if not read_build(subset_dir):
        raise BuildError(f"no built config in {subset_dir} to describe: run medmnist-hf build first")
    try:
        (subset_dir / WORK_DIR).mkdir(exist_ok=True)
        # Several processes may build sizes at once: the last one to finish must see the configs of all.
        with sole_process(subset_dir / WORK_DIR / "card.lock", f"writing the card of {subset_dir}"):
            return _write_card(subset_dir)
    except OSError as error:
        if is_read_only(error) and _has_card(subset_dir):
            return subset_dir / README_NAME
        raise BuildError(cannot_write(f"the card of {subset_dir}", error, "run again")) from None


def _has_card(subset_dir: Path) -> bool:
    """Whether the existing card describes all existing configs."""
    try:
        card = read_document(subset_dir / README_NAME)
    except OSError:
        return False
    return all(manifest.content_id.encode() in card for manifest in read_build(subset_dir))


def _write_card(subset_dir: Path) -> Path:
    manifests = read_build(subset_dir)
    subset = catalog.subset(manifests[0].entry.base)
    built = check_manifests(subset, manifests)
    default = next(
        manifest for manifest in built if manifest.config_name == default_config([each.config_name for each in built])
    )
    audits = {manifest.config_name: read_audit(subset_dir / manifest.config_name) for manifest in built}
    texts = describe(subset, built, {config: findings for config, findings in audits.items() if findings is not None})
    shard = default.splits[SPLITS[0]].shards[0]
    shard_path = subset_dir / default.config_name / shard.name
    draw_sample(shard_path, shard.rows, subset, default.size, subset_dir / picture_name(subset))
    for name, text in texts.items():
        write_atomically(subset_dir / name, text)
    return subset_dir / README_NAME


def read_audit(config_dir: Path) -> tuple[str, ...] | None:
    """Read the saved audit of a config.

    Returns:
        Its findings, one line each; None if no audit was saved.

    Raises:
        BuildError: The file has no list ``findings``.
        OSError: The file cannot be read.
    """
    path = config_dir / AUDIT_NAME
    return parse_findings(read_document(path), str(path)) if path.exists() else None


@cache
def _environment() -> jinja2.Environment:
    templates = environment("medmnist_hf.cards")
    templates.filters |= {"count": lambda number: f"{number:,}", "score": lambda value: f"{value:.3f}"}
    return templates
