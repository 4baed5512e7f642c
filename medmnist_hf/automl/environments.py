"""Find the Python interpreter of an engine, and create an environment for it.

An engine runs in the interpreter that ``MEDMNIST_AUTOML_PYTHON`` names; if that is not set, in the environment that
`make` has created for it; if there is none, in the current interpreter.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from medmnist_hf.automl.engines import Engine
from medmnist_hf.errors import TrainingError
from medmnist_hf.extras import install_command
from medmnist_hf.files import sole_process
from medmnist_hf.redaction import redact, without_tokens

VARIABLE: Final = "MEDMNIST_AUTOML_PYTHON"
"""Environment variable with the interpreter that engines run in."""

COMMAND: Final = "medmnist-hf automl-env"
"""Command that creates the environment of an engine, whose name follows."""

_CHECK_SECONDS: Final = 300
_MAX_REASON: Final = 300
_RELEASE: Final = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"


def home(engine: Engine) -> Path:
    """Return the folder of the environment that `make` creates."""
    return Path(sys.prefix, "automl", engine.name)


def interpreter(engine: Engine) -> Path:
    """Return the interpreter that runs an engine.

    Raises:
        TrainingError: The engine cannot be imported there; the message names the commands that install it.
    """
    configured, own = os.environ.get(VARIABLE), _python(home(engine))
    python = Path(configured) if configured else own if own.exists() else Path(sys.executable)
    try:
        check(engine, python)
    except TrainingError as error:
        extra = f"{install_command(engine.extra)}, or " if engine.extra else ""
        raise TrainingError(f"{error}: {extra}{COMMAND} {engine.name}") from None
    return python


def check(engine: Engine, python: Path) -> str:
    """Import an engine in an interpreter and return its name and version.

    Raises:
        TrainingError: The engine cannot be imported there.
    """
    try:
        result = subprocess.run(
            [python, engine.adapter, "--check"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_CHECK_SECONDS,
            env=environment(python),
            check=False,
        )
    except OSError as error:
        raise TrainingError(f"{engine.title} cannot run in {python} ({error.strerror})") from None
    except subprocess.TimeoutExpired:
        raise TrainingError(f"{engine.title} did not start in {python} within {_CHECK_SECONDS} s") from None
    lines = _lines(result.stdout)
    if result.returncode or not lines:
        reason = (_lines(result.stderr) or [f"exit code {result.returncode}"])[-1][:_MAX_REASON]
        raise TrainingError(f"{engine.title} is not installed in {python} ({reason})")
    return lines[-1]


def environment(python: Path) -> dict[str, str]:
    """Return the environment variables for an engine's process, without tokens and this interpreter's paths."""
    variables = without_tokens(os.environ) | {"PYTHONUNBUFFERED": "1"}
    if python != Path(sys.executable):
        for name in ("PYTHONPATH", "PYTHONHOME"):
            variables.pop(name, None)
    return variables


def make(engine: Engine, python: Path | None = None, on_line: Callable[[str], None] = print) -> Path:
    """Create the environment of an engine from its lock, replacing an existing one.

    Args:
        engine: The engine.
        python: The interpreter to create it with; found automatically by default.
        on_line: Called with a line for each step.

    Returns:
        The interpreter of the environment, in which the engine has been imported.

    Raises:
        TrainingError: There is no interpreter of the right version, or pip cannot install the lock. The environment is
            removed.
    """
    base = _check_version(engine, python) if python else base_interpreter(engine)
    folder = home(engine)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with sole_process(folder.parent / f".{engine.name}.lock", f"creating {folder}"):
        try:
            shutil.rmtree(folder, ignore_errors=True)
            on_line(f"creating {folder} with {base}")
            _run([base, "-m", "venv", folder], f"create {folder}")
            interpreter = _python(folder)
            on_line(f"installing {engine.lock.name}: this takes minutes")
            pip: list[str | Path] = [interpreter, "-m", "pip", "install", "--disable-pip-version-check"]
            _run([*pip, "-r", engine.lock], "install the lock")
            on_line(f"{check(engine, interpreter)} is ready in {folder}")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return interpreter


def base_interpreter(engine: Engine) -> Path:
    """Find an interpreter that an engine's lock installs on, with ``venv`` and pip.

    The current one is preferred, then one on the ``PATH``, of pyenv or of uv.

    Raises:
        TrainingError: There is none; the message says what to install.
    """
    current = Path(sys.executable)
    if _release(current) in engine.pythons:
        return current
    for release in engine.pythons:
        for python in _candidates(release):
            if _release(python) == release:
                return python
    versions = " or ".join(engine.pythons)
    raise TrainingError(
        f"{engine.title} needs Python {versions} and none was found: install one "
        f"(uv python install {engine.pythons[0]}, or pyenv install {engine.pythons[0]}), or name one with --python"
    )


def _candidates(release: str) -> Iterator[Path]:
    on_path = shutil.which(f"python{release}")
    if on_path:
        yield Path(on_path)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/{release}.*/bin/python{release}"))
    uv = shutil.which("uv")
    if uv:
        result = subprocess.run([uv, "python", "find", release], capture_output=True, text=True, check=False)
        if result.returncode == 0:
            yield Path(result.stdout.strip())


def _check_version(engine: Engine, python: Path) -> Path:
    release = _release(python)
    if release not in engine.pythons:
        fault = f"is Python {release}" if release else "is not a Python interpreter with venv and pip"
        raise TrainingError(f"{python} {fault}: {engine.title} needs Python {' or '.join(engine.pythons)}")
    return python


def _release(python: Path) -> str:
    """Return the major and minor version of an interpreter; empty if it does not run or cannot create environments."""
    try:
        result = subprocess.run([python, "-c", _RELEASE], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def _run(command: Sequence[str | Path], what: str) -> None:
    """Run a command and report its output only if it fails."""
    result = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=without_tokens(os.environ),
        check=False,
    )
    if result.returncode:
        lines = _lines(result.stdout)
        errors = [line for line in lines if line.startswith("ERROR: ")]
        reason = (errors or lines or [f"exit code {result.returncode}"])[-1]
        raise TrainingError(f"cannot {what} ({reason[:_MAX_REASON]}): fix that, then run the same command again")


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _lines(text: str) -> list[str]:
    """Return the lines of a process's output without secrets, since pip prints index URLs with their passwords."""
    return [line.strip() for line in redact(text).splitlines() if line.strip()]
