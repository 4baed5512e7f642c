"""Setup shared by all tests: no network, no user cache, official files if available, phantoms generated once."""

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
# Imported modules and collected tests live to the end; scanning them for garbage took a fifth of the test time.
gc.disable()
os.environ.pop("MEDMNIST_ARRAYS", None)
# `datasets` and `huggingface_hub` read these variables on import, so set them first.
os.environ.update(
    HF_HOME=_home,
    HF_DATASETS_CACHE=str(Path(_home, "datasets")),
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
    OMP_NUM_THREADS="1",  # each test process has one core; more torch threads would wait for each other
)

from medmnist_hf.catalog import subset  # noqa: E402
from medmnist_hf.conversion.sources.source import Phantom, SourceFile  # noqa: E402

pytest_plugins = [
    "tests.fixtures.engines.plugin",
    "tests.fixtures.hub.server",
    "tests.fixtures.joint",
    "tests.fixtures.pushing",
    "tests.fixtures.unpublished",
]

Phantoms = Callable[..., SourceFile]
"""Maps a flag, a size and the number of train rows (16 by default) to a phantom file."""


def pytest_collection_finish() -> None:
    """Turn garbage collection on again, only for objects created from here on."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def same_numbers_in_any_order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Restart a module's ``RNG`` for each test, so that its numbers do not depend on the tests before it."""
    if hasattr(request.module, "RNG"):
        monkeypatch.setattr(request.module, "RNG", np.random.default_rng(0))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of official files; tests that need it are skipped if ``MEDMNIST_ROOT`` is not set."""
    root = os.environ.get("MEDMNIST_ROOT")
    if not root:
        pytest.skip("MEDMNIST_ROOT is not set: no official files")
    return Path(root).resolve()  # subprocesses run in other folders


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Phantoms:
    """Phantom files, each generated once per session."""
    cache = tmp_path_factory.mktemp("phantoms")

    def fetch(flag: str, size: int = 28, rows: int = 16) -> SourceFile:
        return Phantom(cache, rows=rows).fetch(subset(flag), size)

    return fetch
