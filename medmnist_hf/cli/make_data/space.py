"""The commands of the Space: ``medmnist-hf space`` writes its folder, ``medmnist-hf push-space`` pushes it."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import TextColumn

from medmnist_hf import catalog, console
from medmnist_hf.catalog import NAMESPACE
from medmnist_hf.cli.make_data.push import Message, Private, Tag, Yes, push_files
from medmnist_hf.cli.options.data import RootToRead, Size
from medmnist_hf.console.program import Panel
from medmnist_hf.errors import BuildError, one_line
from medmnist_hf.files import expand_user

if TYPE_CHECKING:
    from medmnist_hf.embeddings.manifest import StoreManifest
    from medmnist_hf.leaderboard.results import Result
    from medmnist_hf.places.resolver import Build, Place
    from medmnist_hf.space.pictures import PictureFiles


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.command(epilog="Example: medmnist-hf space breastmnist --root dist --out site")(space)
    app.command(epilog="Example: medmnist-hf push-space site --repo-id you/MedMNIST --yes")(push_space)


def space(
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATA",
            help="Data sets to show pictures of: subsets (pathmnist), builds (dist/pathmnist) or NPZ files.",
            show_default="all subsets in the folder of builds",
        ),
    ] = None,
    *,
    root: RootToRead = None,
    size: Size = None,
    split: Annotated[str, Panel.DATA.option(help="Split to show: train, validation or test.")] = "train",
    images: Annotated[
        int | None,
        Panel.DATA.option(min=1, help="Images per gallery, of all classes.", show_default="96, or 24 volumes"),
    ] = None,
    features: Annotated[
        Path | None,
        Panel.DATA.option(help="Folder of feature stores to draw atlases of, as written by medmnist-hf embed."),
    ] = None,
    points: Annotated[int, Panel.DATA.option(min=3, help="Images per atlas.")] = 1000,
    projection: Annotated[
        str, Panel.DATA.option(help="Projection of the features: pca, or tsne (needs scikit-learn).")
    ] = "pca",
    entries: Annotated[
        str | None,
        Panel.DATA.option(
            metavar="PLACE",
            help="Entries to recompute and rank too: an entry, a folder of entries, or their repository on the Hub.",
        ),
    ] = None,
    out: Annotated[Path, Panel.OUTPUT.option(help="Folder to write the page to.")],
) -> None:
    """Write the page of the Space: a gallery of the subsets, their leaderboards, and atlases of features.

    It is static: serve the folder with any web server, e.g. python -m http.server --directory site. Subsets that are
    not built are described without pictures.
    """
    from medmnist_hf.space.site import write_site

    split = catalog.split_name(split)
    stores = [] if features is None else list(_stores(expand_user(features), root))
    galleries = _galleries(list(_places(data, root, size)), split, images)
    atlases = _atlases(stores, split, points, projection)
    results = [] if entries is None else list(_results(entries, root))
    record = write_site(expand_user(out), chain(galleries, atlases), results)
    for pictures in record.pictures:
        banner = f"  {pictures.provenance.upper()}" if pictures.provenance != "verified" else ""
        console.echo(f"{pictures.kind:<8} {pictures.subset} {pictures.size}  {pictures.model}{banner}".rstrip())
    shown = len({pictures.subset for pictures in record.pictures if pictures.kind == "gallery"})
    console.echo(f"{out}: {len(catalog.subsets())} subsets, {shown} with pictures")


def _galleries(places: "list[Place]", split: str, images: int | None) -> "Iterator[PictureFiles]":
    from medmnist_hf.space.pictures import draw_gallery, open_place

    for place in places:
        rows, provenance = open_place(place)
        with _drawing(f"images of {rows.where}"):
            drawn = draw_gallery(rows, provenance, split, images)
        yield drawn


def _atlases(
    stores: "list[tuple[Path, StoreManifest, Build]]", split: str, points: int, projection: str
) -> "Iterator[PictureFiles]":
    from medmnist_hf.space.atlas import draw_atlas

    for folder, manifest, place in stores:
        with _drawing(f"the atlas of {folder}"):
            drawn = draw_atlas(folder, manifest, place, split, points=points, projection=projection)
        yield drawn


@contextmanager
def _drawing(what: str) -> Iterator[None]:
    with console.progress(TextColumn("{task.description}", markup=False)) as progress:
        progress.add_task(f"drawing {what}", total=None)
        yield


def _results(place: str, root: Path | None) -> "Iterator[Result]":
    """The results of entries on all subsets; why one is left out is printed."""
    from medmnist_hf.submissions.accepted import read_accepted

    notes: list[str] = []
    for entry in catalog.subsets():
        with _drawing(f"the leaderboard of {entry.flag} with the entries of {place}"):
            accepted = read_accepted(place, entry.flag, root=root)
        yield from accepted.results
        notes += accepted.notes
    for note in dict.fromkeys(notes):
        console.echo(f"warning: {one_line(note)}", err=True)


def _places(data: list[str] | None, root: Path | None, size: str | None) -> "Iterator[Place]":
    """The named data sets; or all subsets that a folder of builds, or else one of the usual folders, has in a size."""
    from medmnist_hf.places.names import parse_name
    from medmnist_hf.places.resolver import find, find_below, find_local, resolve_config

    if root is not None and not expand_user(root).is_dir():
        raise BuildError(f"{root}: no such folder: give a folder of builds or NPZ files")
    if data:
        flags = set()
        for name in data:
            place = find(name, size, root=root, npz=True)
            if place.entry is not None and place.entry.flag in flags:
                raise BuildError(f"{place.entry.flag} is named twice: a gallery shows one size, so name it once")
            flags.add(place.entry.flag if place.entry else "")
            yield place
        return
    number = resolve_config(parse_name(catalog.subsets()[0].flag), size, None)[1] or catalog.DEFAULT_SIZE
    for entry in catalog.subsets():
        if number not in entry.sizes:
            continue
        local = (
            find_local(entry, number, npz=True)
            if root is None
            else find_below(expand_user(root), entry, number, npz=True)
        )
        if local is not None:
            yield local


def _stores(folder: Path, root: Path | None) -> "Iterator[tuple[Path, StoreManifest, Build]]":
    """The feature stores of a folder, each with the build of its images."""
    from medmnist_hf.embeddings.manifest import read_store
    from medmnist_hf.embeddings.stores import STORES, store_folders
    from medmnist_hf.places.resolver import Build, find

    stores = [path.parent for parent in store_folders(folder) for path in sorted(parent.glob(STORES))]
    if not stores:
        raise BuildError(f"no features in {folder}: run medmnist-hf embed")
    for store in stores:
        manifest = read_store(store)
        if catalog.subset(manifest.subset).variant:
            console.echo(f"{store}: left out, as the page has no atlas of {manifest.subset}", err=True)
            continue
        place = find(manifest.subset, manifest.size, root=root)
        if not isinstance(place, Build):
            raise BuildError(
                f"no build of {manifest.subset} at size {manifest.size}, whose images the atlas shows: build it, or "
                "name its folder with --root"
            )
        yield store, manifest, place


def push_space(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder written by medmnist-hf space.", show_default=False)
    ],
    *,
    allow_synthetic: Annotated[
        bool, Panel.DATA.option("--allow-synthetic", help="Push pictures of phantoms, which are marked as synthetic.")
    ] = False,
    allow_unverified: Annotated[
        bool,
        Panel.DATA.option("--allow-unverified", help="Push pictures of NPZ files whose MD5 differs from the catalog."),
    ] = False,
    repo_id: Annotated[
        str, Panel.HUB.option(metavar="USER/NAME", help="The Space to push to.")
    ] = f"{NAMESPACE}/MedMNIST",
    yes: Yes = False,
    private: Private = False,
    tag: Tag = None,
    message: Message = None,
) -> None:
    """Push the page of the Space to the Hub in one commit.

    Pictures that it no longer shows are removed, other files of the Space are kept. Without --yes, only show what
    would change.
    """
    from medmnist_hf.hub.client import hide_progress_bars, hub_api, require_token
    from medmnist_hf.hub.commit import CommitOptions
    from medmnist_hf.space import push as pushing

    hide_progress_bars()
    files = pushing.read_site(expand_user(folder), allow_synthetic=allow_synthetic, allow_unverified=allow_unverified)
    api = hub_api()
    if yes:
        require_token(api)
    options = CommitOptions(repo_id, private=private, tag=tag, message=message)
    plan = pushing.plan_space(api, files, options)
    push_files(plan, partial(pushing.push_space, api, plan, options), yes)
