"""Builds that the tests of exports share."""

from pathlib import Path

import pytest

from medmnist_hf.catalog import subset
from medmnist_hf.conversion.build import build_config
from medmnist_hf.conversion.sources.source import Folder
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.exports import CONFIGS, REAL


@pytest.fixture(scope="session")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    for flag, size in CONFIGS:
        build(phantoms, out, flag, size)
    return out


@pytest.fixture(scope="session")
def real_builds(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("real")
    for flag in REAL:
        build_config(subset(flag), 28, Folder(real_data).fetch(subset(flag), 28), out)
    return out
