"""`load(..., build=True)` builds a config once, if it is not on this machine."""

from pathlib import Path

import numpy as np
import pytest

import medmnist_hf
from medmnist_hf.errors import SourceError
from medmnist_hf.manifest import Provenance, read_manifest
from medmnist_hf.places.resolver import ROOT_VARIABLE
from tests.fixtures.zenodo import Reply, zenodo_server

FLAG = "breastmnist"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in an empty folder, with an empty cache."""
    monkeypatch.delenv(ROOT_VARIABLE, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def test_build_writes_to_the_cache_once(real_data: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like ``download=True`` of the official package; the official file is in ``MEDMNIST_ROOT``."""
    rows = medmnist_hf.load("BreastMNIST", split="val", build=True)
    config = home / "medmnist-hf" / "builds" / FLAG / "28"
    assert len(rows) == 78 and read_manifest(config).source.provenance is Provenance.VERIFIED
    built_at = (config / "manifest.json").stat().st_mtime_ns
    monkeypatch.setenv("MEDMNIST_ROOT", str(home / "gone"))
    with np.load(real_data / "breastmnist.npz") as arrays:
        for images, labels in (
            medmnist_hf.load_arrays(FLAG, split="test", build=True),
            medmnist_hf.load_arrays(FLAG, split="test"),
        ):
            assert np.array_equal(images, arrays["test_images"]) and np.array_equal(
                labels, arrays["test_labels"][:, 0]
            )
    assert (config / "manifest.json").stat().st_mtime_ns == built_at


def test_build_in_a_root(real_data: Path, home: Path, tmp_path: Path) -> None:
    assert medmnist_hf.load_arrays(FLAG, root=tmp_path / "out", build=True).images.shape == (546, 28, 28)
    assert (tmp_path / "out" / FLAG / "README.md").is_file() and not (home / "medmnist-hf" / "builds").exists()


def test_a_failing_build_gives_a_one_line_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDMNIST_ROOT", str(home / "none"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with zenodo_server() as server:
        server.then = Reply(status=404)
        monkeypatch.setenv("MEDMNIST_ENDPOINT", server.url)
        with pytest.raises(SourceError, match=r"^cannot fetch breastmnist_224\.npz") as caught:
            medmnist_hf.load(FLAG, 224, build=True)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(
        "check the network, try later, or set MEDMNIST_ROOT to a folder that holds breastmnist_224.npz"
    )
    with pytest.raises(SourceError, match="build=True needs the flag of a subset"):
        medmnist_hf.load("you/pathmnist", build=True)
    with pytest.raises(SourceError, match="build=True needs the flag of a subset"):
        medmnist_hf.load("pathmnist", revision="v1", build=True)
