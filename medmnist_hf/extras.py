"""Extras of this distribution: errors for missing modules name the command that installs them.

Which extra requires what is read from the installed metadata, so ``pyproject.toml`` is the only place that lists it.
"""

import importlib.util
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.metadata import requires
from pathlib import Path
from typing import Any, Final

from medmnist_hf.errors import MedMNISTError

DISTRIBUTION: Final = "medmnist-hf"

NAMES: Final = {"cv2": "opencv-python-headless", "PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}
"""Import name -> distribution name, where they differ by more than punctuation."""

_REQUIREMENT: Final = re.compile(r"\s*([\w.-]+)")
_EXTRA: Final = re.compile(r"""extra\s*==\s*["']([\w.-]+)["']""")


class MissingModuleError(MedMNISTError, ImportError):
    """A module required by this distribution or one of its extras is not installed."""


def install_command(*extras: str) -> str:
    """Return the command that installs extras, for a wheel and a checkout alike.

    Args:
        extras: Names of extras; if there are none, the command installs the core requirements.

    Example:
        >>> install_command("build", "plot").rpartition(" ")[2]
        "'medmnist-hf[build,plot]'"
    """
    on_path = shutil.which("python")
    # Do not resolve links: in a virtual environment `python` links to the system's interpreter.
    python = "python" if on_path is not None and Path(on_path) == Path(sys.executable) else sys.executable
    pip = f"{python} -m pip install" if importlib.util.find_spec("pip") else f"uv pip install --python {python}"
    suffix = f"[{','.join(extras)}]" if extras else ""
    return f"{pip} '{DISTRIBUTION}{suffix}'"


def extras_of(module: str) -> tuple[str, ...] | None:
    """Return the extras that install a module, the smallest extra first.

    Args:
        module: Full name of the module, e.g. ``sklearn.metrics``.

    Returns:
        Names of extras; empty for a core requirement, None for a module that this distribution does not require.
    """
    extras_by_distribution = _extras_by_distribution()
    names = extras_by_distribution.get(_normalize(NAMES.get(root := module.partition(".")[0], root)))
    requirements = [extra for extras in extras_by_distribution.values() for extra in extras]
    return names and tuple(sorted(names, key=requirements.count))


@cache
def _extras_by_distribution() -> Mapping[str, tuple[str, ...]]:
    """Name of a distribution -> extras that require it; empty for a core requirement."""
    extras: dict[str, tuple[str, ...]] = {}
    for line in requires(DISTRIBUTION) or ():
        if name := _REQUIREMENT.match(line):
            key = _normalize(name[1])
            core = key in extras and not extras[key]
            extra = _EXTRA.search(line)
            extras[key] = (*extras.get(key, ()), extra[1]) if extra and not core else ()
    return extras


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@contextmanager
def suggest_install(extra: str | None = None) -> Iterator[None]:
    """Replace the error for a missing module by one that names the command to install it; also a decorator.

    Args:
        extra: The extra that the enclosed code belongs to; by default the smallest extra with the missing module.

    Raises:
        MissingModuleError: A module that this distribution requires is not installed. If several extras have it, the
            outermost context that names one of them decides. Other errors are not changed.
    """
    try:
        yield
    except (ModuleNotFoundError, MissingModuleError) as error:
        candidates = extras_of(error.name or "")
        if candidates is None or (extra is None and isinstance(error, MissingModuleError)):
            raise
        # The requested extra may lack the module: it may belong to the core or to another extra.
        suggested = (extra,) if extra in candidates else candidates[:1]
        missing = MissingModuleError(f"{error.name} is not installed: {install_command(*filter(None, suggested))}")
        missing.name = error.name
        raise missing from None


def require_modules(extra: str, *modules: str) -> None:
    """Check that the modules of an extra are installed, for a package that cannot work without them.

    Args:
        extra: Name of the extra.
        modules: Names of top-level modules, which are not imported.

    Raises:
        MissingModuleError: A module is not installed.
    """
    with suggest_install(extra):
        for module in modules:
            if importlib.util.find_spec(module) is None:
                raise ModuleNotFoundError(module, name=module)


def import_member(module: str, name: str, extra: str | None = None) -> Any:
    """Import a module and return one of its members, for a package that re-exports it lazily.

    Args:
        module: Full name of the module.
        name: Name of the member.
        extra: As in `suggest_install`.

    Raises:
        MissingModuleError: As in `suggest_install`.
    """
    with suggest_install(extra):
        return getattr(import_module(module), name)
