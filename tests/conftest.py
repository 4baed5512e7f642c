"""What all tests share: no network and no user's cache, real files where they are at hand, phantoms made once."""

import atexit
import gc
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

_home = tempfile.mkdtemp(prefix="medmnist-hf-tests-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)
# What is imported and collected lives to the end; to look through it for garbage was a fifth of the time of the tests.
gc.disable()
# `datasets` and `huggingface_hub` read these once, when they are imported: this file is loaded before either.
os.environ.update(
    HF_HOME=_home,
    HF_DATASETS_CACHE=str(Path(_home, "datasets")),
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
    OMP_NUM_THREADS="1",  # a test process has one core; torch's threads would wait for each other
)

from medmnist_hf.catalog import subset  # noqa: E402
from medmnist_hf.conversion.sources.source import Phantom, SourceFile  # noqa: E402

pytest_plugins = ["tests.fixtures.hub.server", "tests.fixtures.pushing", "tests.fixtures.unpublished"]

Phantoms = Callable[..., SourceFile]
"""Called with a flag, a size and the rows of the train split (16 by default), gives a phantom file."""


def pytest_collection_finish() -> None:
    """From here on garbage is looked for again, in what the tests make alone."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def same_numbers_in_any_order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module's ``RNG`` begins anew in each test: what a test draws does not hang on those that ran before it."""
    if hasattr(request.module, "RNG"):
        monkeypatch.setattr(request.module, "RNG", np.random.default_rng(0))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of official files; tests that need it are skipped where ``MEDMNIST_ROOT`` names none."""
    root = os.environ.get("MEDMNIST_ROOT")
    if not root:
        pytest.skip("MEDMNIST_ROOT names no folder of official files")
    return Path(root).resolve()  # children run in other folders


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Phantoms:
    """Phantom files, each generated once a session."""
    cache = tmp_path_factory.mktemp("phantoms")

    def fetch(flag: str, size: int = 28, rows: int = 16) -> SourceFile:
        return Phantom(cache, rows=rows).fetch(subset(flag), size)

    return fetch
