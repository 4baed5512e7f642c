"""Where an engine's interpreter is, and how an environment of its own is made for it.

An engine runs in the interpreter that ``MEDMNIST_AUTOML_PYTHON`` names, or else in the environment that `make` makes
for it beside this one, or else in this interpreter.
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
"""What makes the environment of the engine whose name follows."""

_CHECK_SECONDS: Final = 300
_LONGEST: Final = 300
_RELEASE: Final = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"


def home(engine: Engine) -> Path:
    """Folder of the environment that `make` makes."""
    return Path(sys.prefix, "automl", engine.name)


def interpreter(engine: Engine) -> Path:
    """The interpreter that runs an engine.

    Raises:
        TrainingError: The engine cannot be imported there; the extra and the command that installs it are named.
    """
    named, made = os.environ.get(VARIABLE), _python(home(engine))
    python = Path(named) if named else made if made.exists() else Path(sys.executable)
    try:
        check(engine, python)
    except TrainingError as error:
        extra = f"{install_command(engine.extra)}, or " if engine.extra else ""
        raise TrainingError(f"{error}: {extra}{COMMAND} {engine.name}") from None
    return python


def check(engine: Engine, python: Path) -> str:
    """Name and version of an engine, as its adapter tells them in an interpreter.

    Raises:
        TrainingError: The engine cannot be imported there.
    """
    try:
        done = subprocess.run(
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
        raise TrainingError(f"{engine.title} does not answer in {python} within {_CHECK_SECONDS} s") from None
    lines = _lines(done.stdout)
    if done.returncode or not lines:
        why = (_lines(done.stderr) or [f"exit code {done.returncode}"])[-1][:_LONGEST]
        raise TrainingError(f"{engine.title} is not installed in {python} ({why})")
    return lines[-1]


def environment(python: Path) -> dict[str, str]:
    """Variables for a process of an engine: those of this one, but for tokens and for modules of this interpreter."""
    kept = without_tokens(os.environ) | {"PYTHONUNBUFFERED": "1"}
    if python != Path(sys.executable):
        for name in ("PYTHONPATH", "PYTHONHOME"):
            kept.pop(name, None)
    return kept


def make(engine: Engine, python: Path | None = None, tell: Callable[[str], None] = print) -> Path:
    """Make the environment of an engine, in place of one that is there, from its lock.

    Args:
        engine: The engine.
        python: The interpreter to make it with; looked for where not given.
        tell: Called with a line for each step.

    Returns:
        The interpreter of the environment, in which the engine has been imported.

    Raises:
        TrainingError: There is no interpreter of the right release, or pip cannot install the lock. Nothing is left.
    """
    base = _checked(engine, python) if python else base_interpreter(engine)
    folder = home(engine)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with sole_process(folder.parent / f".{engine.name}.lock", f"making {folder}"):
        try:
            shutil.rmtree(folder, ignore_errors=True)
            tell(f"making {folder} with {base}")
            _run([base, "-m", "venv", folder], f"make {folder}")
            made = _python(folder)
            tell(f"installing {engine.lock.name}: this takes minutes")
            _run([made, "-m", "pip", "install", "--disable-pip-version-check", "-r", engine.lock], "install the lock")
            tell(f"{check(engine, made)} is ready in {folder}")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return made


def base_interpreter(engine: Engine) -> Path:
    """An interpreter of a release that an engine's lock installs on, with ``venv`` and pip.

    This one if it will do; else one on the ``PATH``, of pyenv or of uv.

    Raises:
        TrainingError: There is none; what to install is named.
    """
    mine = Path(sys.executable)
    if _release(mine) in engine.pythons:
        return mine
    for release in engine.pythons:
        for python in _candidates(release):
            if _release(python) == release:
                return python
    wanted = " or ".join(engine.pythons)
    raise TrainingError(
        f"{engine.title} needs Python {wanted} and none was found: install one "
        f"(uv python install {engine.pythons[0]}, or pyenv install {engine.pythons[0]}), or name one with --python"
    )


def _candidates(release: str) -> Iterator[Path]:
    found = shutil.which(f"python{release}")
    if found:
        yield Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/{release}.*/bin/python{release}"))
    uv = shutil.which("uv")
    if uv:
        done = subprocess.run([uv, "python", "find", release], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            yield Path(done.stdout.strip())


def _checked(engine: Engine, python: Path) -> Path:
    release = _release(python)
    if release not in engine.pythons:
        found = f"is of Python {release}" if release else "is no Python with venv and pip"
        raise TrainingError(f"{python} {found}: {engine.title} needs {' or '.join(engine.pythons)}")
    return python


def _release(python: Path) -> str:
    """Major and minor version of an interpreter; empty if it does not run, or cannot make environments."""
    try:
        done = subprocess.run([python, "-c", _RELEASE], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _run(command: Sequence[str | Path], doing: str) -> None:
    """Run a command whose words are of interest only if it fails."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=without_tokens(os.environ),
        check=False,
    )
    if done.returncode:
        lines = _lines(done.stdout)
        why = ([line for line in lines if line.startswith("ERROR: ")] or lines or [f"exit code {done.returncode}"])[-1]
        raise TrainingError(f"cannot {doing} ({why[:_LONGEST]}): fix that, then run the same command again")


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _lines(text: str) -> list[str]:
    """Lines of what a process said, without secrets: pip names the address of a package index with its password."""
    return [line.strip() for line in redact(text).splitlines() if line.strip()]
