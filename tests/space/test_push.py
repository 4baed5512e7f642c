"""Pushing the Space to the loopback Hub: what was checked, in one commit, and nothing synthetic unless asked for."""

from pathlib import Path

import pytest

from medmnist_hf.catalog import subset
from medmnist_hf.errors import BuildError, HubError
from medmnist_hf.hub.commit import CommitOptions, Pushed
from medmnist_hf.places.resolver import Build
from medmnist_hf.space.pictures import draw_gallery, open_place
from medmnist_hf.space.push import plan_space, push_space, read_site
from medmnist_hf.space.site import write_site
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.hub.server import HubServer

KIND, ID = "space", "org/MedMNIST"


@pytest.fixture
def site(phantoms: Phantoms, tmp_path: Path) -> Path:
    """A page with a gallery of a phantom."""
    folder = build(phantoms, tmp_path / "dist", "pathmnist", 28)
    drawn = draw_gallery(*open_place(Build(subset("pathmnist"), 28, folder / "28")), "train")
    write_site(tmp_path / "site", [drawn])
    return tmp_path / "site"


def push(hub: HubServer, site: Path, tag: str | None = None) -> Pushed:
    options = CommitOptions(ID, tag=tag)
    plan = plan_space(hub.api(), read_site(site, allow_synthetic=True), options)
    return push_space(hub.api(), plan, options)


def test_a_push_holds_the_folder_and_removes_old_pictures_only(hub: HubServer, site: Path) -> None:
    first = push(hub, site, "v1")
    files = hub.store.files(KIND, ID)
    held = {path.relative_to(site).as_posix(): path.read_bytes() for path in site.rglob("*") if path.is_file()}
    assert files.pop(".gitattributes") and files == held and b"sdk: static" in files["README.md"]
    assert first.committed and hub.store.repos[KIND, ID].tags == {"v1": first.sha}
    assert not push(hub, site).committed
    hub.store.write(KIND, ID, {"notes.txt": b"mine"})
    write_site(site)
    plan = plan_space(hub.api(), read_site(site), CommitOptions(ID))
    assert plan.paths("removed") == [f"pictures/pathmnist{end}" for end in ("-cover.png", ".json", ".png")]
    assert plan.paths("changed") == ["data/site.json"]
    assert push(hub, site).committed
    assert {"notes.txt"} == hub.store.files(KIND, ID).keys() - read_site(site).keys() - {".gitattributes"}


def test_synthetic_pictures_are_refused_unless_asked_for(site: Path) -> None:
    with pytest.raises(
        BuildError, match=r"shows synthetic images of pathmnist: leave them out, or pass --allow-synth"
    ):
        read_site(site)
    with pytest.raises(BuildError, match="synthetic"):
        read_site(site, allow_unverified=True)
    record = site / "data" / "site.json"
    record.write_text(record.read_text().replace('"synthetic"', '"unverified"'))
    with pytest.raises(BuildError, match="--allow-unverified"):
        read_site(site, allow_synthetic=True)


def test_files_that_were_changed_are_refused(site: Path) -> None:
    picture, page = site / "pictures" / "pathmnist.png", site / "index.html"
    original, text = picture.read_bytes(), page.read_text()
    picture.write_bytes((site / "pictures" / "pathmnist-cover.png").read_bytes())
    with pytest.raises(BuildError, match=r"pathmnist\.png differs from data/site\.json: write the folder again"):
        read_site(site, allow_synthetic=True)
    picture.write_bytes(b"GIF89a")
    with pytest.raises(BuildError, match="not a valid PNG"):
        read_site(site, allow_synthetic=True)
    picture.unlink()
    picture.symlink_to("/etc/hostname")
    with pytest.raises(BuildError, match="links are not pushed"):
        read_site(site, allow_synthetic=True)
    picture.unlink()
    picture.write_bytes(original)
    page.write_text(text.replace("script-src 'self'", "script-src *"))
    with pytest.raises(BuildError, match=r"index\.html is not of this version of medmnist-hf"):
        read_site(site, allow_synthetic=True)
    page.unlink()
    with pytest.raises(BuildError, match=r"cannot read .*index\.html"):
        read_site(site, allow_synthetic=True)


def test_a_bad_name_and_a_missing_token_are_one_line(hub: HubServer, site: Path) -> None:
    files = read_site(site, allow_synthetic=True)
    with pytest.raises(HubError, match="is not a valid repository"):
        plan_space(hub.api(), files, CommitOptions("MedMNIST"))
    plan = plan_space(hub.api(anonymous=True), files, CommitOptions(ID))
    with pytest.raises(HubError, match="no token"):
        push_space(hub.api(anonymous=True), plan, CommitOptions(ID))
    assert not hub.store.repos
