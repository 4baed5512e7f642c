"""`medmnist_hf.automl.environments`: which interpreter runs an engine, and a real environment created from a lock."""

import base64
import hashlib
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from medmnist_hf.automl import environments
from medmnist_hf.automl.engines import Engine
from medmnist_hf.automl.environments import VARIABLE, base_interpreter, check, environment, home, interpreter, make
from medmnist_hf.errors import TrainingError
from tests.fixtures.automl_engine import tiny_engine

CURRENT = Path(sys.executable)
RELEASE = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(autouse=True)
def prefix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    return tmp_path / "prefix"


def engine_with_lock(folder: Path, **facts: object) -> Engine:
    """An engine whose adapter imports a package that only its lock installs."""
    engine = tiny_engine(folder, "pass", pythons=(RELEASE,), **facts)
    engine.adapter.write_text("import tiny_package\nprint(tiny_package.NAME)\n")
    engine.lock.write_text(f"{wheel(folder)}\n")
    return engine


def wheel(folder: Path) -> Path:
    """Create a wheel with one module, which pip can install without a network."""
    path = folder / "tiny_package-1.0-py3-none-any.whl"
    info = "tiny_package-1.0.dist-info"
    files = {
        "tiny_package.py": "NAME = 'Tiny 1.0'\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny-package\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }

    def record(name: str, text: str) -> str:
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        return f"{name},sha256={digest},{len(text)}"

    lines = [*(record(name, text) for name, text in files.items()), f"{info}/RECORD,,"]
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in (files | {f"{info}/RECORD": "\n".join(lines) + "\n"}).items():
            archive.writestr(name, text)
    return path


@pytest.mark.slow
def test_an_environment_is_created_from_the_lock_and_found(tmp_path: Path) -> None:
    engine, lines = engine_with_lock(tmp_path), list[str]()
    with pytest.raises(TrainingError, match=r"Tiny is not installed in .*tiny_package.*medmnist-hf automl-env flaml$"):
        interpreter(engine)
    python = make(engine, on_line=lines.append)
    assert python == home(engine) / "bin" / "python" == interpreter(engine)
    assert check(engine, python) == "Tiny 1.0" and lines[-1] == f"Tiny 1.0 is ready in {home(engine)}"
    result = subprocess.run([CURRENT, "-c", "import tiny_package"], capture_output=True, check=False)
    assert result.returncode != 0, "the current environment must not have the package"


@pytest.mark.slow
def test_a_lock_that_cannot_be_installed_leaves_no_environment(tmp_path: Path) -> None:
    engine = engine_with_lock(tmp_path)
    engine.lock.write_text(f"{tmp_path}/not-there-1.0-py3-none-any.whl\n")
    with pytest.raises(
        TrainingError, match=r"cannot install the lock .*not-there-1\.0.*run the same command"
    ) as caught:
        make(engine, on_line=lambda _: None)
    assert "\n" not in str(caught.value) and not home(engine).exists()


def test_the_configured_interpreter_precedes_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tiny_engine(tmp_path, "pass")
    assert interpreter(engine) == CURRENT
    other = tmp_path / "other"
    other.symlink_to(CURRENT)
    monkeypatch.setenv(VARIABLE, str(other))
    assert interpreter(engine) == other
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(TrainingError, match=r"Tiny cannot run in .*nowhere \(No such file") as caught:
        interpreter(engine)
    assert "\n" not in str(caught.value)


def test_a_failing_adapter_is_reported_with_the_extra(tmp_path: Path) -> None:
    engine = tiny_engine(tmp_path, "pass", extra="flaml")
    for text, reason in {
        "raise ImportError('no\\n wheels')": r"\(ImportError|\( ?wheels|no wheels",
        "raise SystemExit(9)": r"\(exit code 9\)",
        "pass": r"\(exit code 0\)",
    }.items():
        engine.adapter.write_text(text)
        with pytest.raises(TrainingError, match=reason) as caught:
            interpreter(engine)
        assert "pip install 'medmnist-hf[flaml]', or medmnist-hf automl-env flaml" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_adapter_that_never_ends_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tiny_engine(tmp_path, "pass")
    engine.adapter.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(environments, "_CHECK_SECONDS", 0.2)
    with pytest.raises(TrainingError, match=r"did not start in .* within 0\.2 s"):
        interpreter(engine)


def test_engines_get_no_hub_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.setenv(name, "a-secret")
        assert name not in environment(CURRENT) and name not in environment(Path("/other/python"))


def test_another_interpreter_does_not_get_pythonpath(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "here")
    assert environment(CURRENT)["PYTHONPATH"] == "here"
    assert "PYTHONPATH" not in environment(Path("/other/python")) and environment(Path("/other/python"))["PATH"]


def fake(folder: Path, name: str, output: str, code: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho {output}\nexit {code}\n")
    (folder / name).chmod(0o755)
    return folder / name


def test_an_interpreter_is_found_on_the_path_in_pyenv_and_in_uv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = tiny_engine(tmp_path, "pass", pythons=("3.2", "3.1"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    with pytest.raises(TrainingError, match=r"Tiny needs Python 3.2 or 3.1 and none was found: install one") as caught:
        base_interpreter(engine)
    assert "uv python install 3.2" in str(caught.value) and "\n" not in str(caught.value)
    fake(tmp_path / "bin", "python3.2", "pyenv: command not found", code=127)  # like a shim of pyenv
    of_uv = fake(tmp_path / "uv", "python3.1", "3.1")
    fake(tmp_path / "bin", "uv", str(of_uv))
    assert base_interpreter(engine) == of_uv
    of_pyenv = fake(tmp_path / "pyenv" / "versions" / "3.2.9" / "bin", "python3.2", "3.2")
    assert base_interpreter(engine) == of_pyenv
    on_path = fake(tmp_path / "bin", "python3.2", "3.2")
    assert base_interpreter(engine) == on_path
    assert base_interpreter(replace(engine, pythons=("3.2", RELEASE))) == CURRENT


@pytest.mark.parametrize(
    ("output", "message"),
    [("2.7", r"is Python 2.7: Tiny needs Python 3\."), ("", "is not a Python interpreter with venv")],
)
def test_an_interpreter_of_another_version_is_refused(tmp_path: Path, output: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        make(tiny_engine(tmp_path, "pass"), fake(tmp_path, "python", output), lambda _: None)
    assert not (tmp_path / "prefix").exists()
