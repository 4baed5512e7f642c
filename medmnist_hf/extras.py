"""What is not installed, told in one line with the command that installs it: the extras of this distribution.

Which extra brings what is read from the metadata that was installed with this package, so it stands in
``pyproject.toml`` alone.
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

NAMES: Final = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}
"""Name of an import -> that of the distribution that brings it, where they differ by more than signs."""

_REQUIREMENT: Final = re.compile(r"\s*([\w.-]+)")
_EXTRA: Final = re.compile(r"""extra\s*==\s*["']([\w.-]+)["']""")


class MissingModuleError(MedMNISTError, ImportError):
    """A module that an extra of this distribution brings is not installed."""


def install_command(*extras: str) -> str:
    """The command that adds extras to what is installed, be it from a wheel or a checkout.

    Args:
        extras: Their names; without any, what the package itself needs.

    Example:
        >>> install_command("build", "plot").rpartition(" ")[2]
        "'medmnist-hf[build,plot]'"
    """
    here = shutil.which("python")
    # A link is not followed: `python` of a virtual environment is one to that of the system.
    python = "python" if here is not None and Path(here) == Path(sys.executable) else sys.executable
    pip = f"{python} -m pip install" if importlib.util.find_spec("pip") else f"uv pip install --python {python}"
    named = f"[{','.join(extras)}]" if extras else ""
    return f"{pip} '{DISTRIBUTION}{named}'"


def extras_of(module: str) -> tuple[str, ...] | None:
    """The extras that bring a module, those that bring least first; none of them for a part of the core.

    Args:
        module: Its full name, e.g. ``sklearn.metrics``.

    Returns:
        Their names; None if this distribution does not ask for the module.
    """
    found = _extras()
    names = found.get(_normal(NAMES.get(root := module.partition(".")[0], root)))
    every = [extra for asking in found.values() for extra in asking]
    return names and tuple(sorted(names, key=every.count))


@cache
def _extras() -> Mapping[str, tuple[str, ...]]:
    """Name of a distribution -> extras that ask for it, () where the core does."""
    found: dict[str, tuple[str, ...]] = {}
    for line in requires(DISTRIBUTION) or ():
        if name := _REQUIREMENT.match(line):
            key = _normal(name[1])
            core = key in found and not found[key]
            extra = _EXTRA.search(line)
            found[key] = (*found.get(key, ()), extra[1]) if extra and not core else ()
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@contextmanager
def suggest_install(extra: str | None = None) -> Iterator[None]:
    """Turn what is not installed into a line with the command that installs it; also a decorator.

    Args:
        extra: The one that the code within belongs to; by default the one that brings what is missing and least else.

    Raises:
        MissingModuleError: A module was imported that this distribution asks for, and that is not there; where several
            extras bring it, the outermost code that names one of them decides. All else stays as it is.
    """
    try:
        yield
    except (ModuleNotFoundError, MissingModuleError) as error:
        found = extras_of(error.name or "")
        if found is None or (extra is None and isinstance(error, MissingModuleError)):
            raise
        # What the core needs, and what another extra alone brings, is not had by the extra of a verb.
        named = (extra,) if extra in found else found[:1]
        missing = MissingModuleError(f"{error.name} is not installed: {install_command(*filter(None, named))}")
        missing.name = error.name
        raise missing from None


def require_modules(extra: str, *modules: str) -> None:
    """Refuse to go on without modules that an extra brings, for a package that is of no use without them.

    Args:
        extra: Its name.
        modules: Names of top-level modules, which are looked for but not imported.

    Raises:
        MissingModuleError: One is not installed.
    """
    with suggest_install(extra):
        for module in modules:
            if importlib.util.find_spec(module) is None:
                raise ModuleNotFoundError(module, name=module)


def import_member(module: str, name: str, extra: str | None = None) -> Any:
    """A member of a module that is imported now, for a package that offers it without being one of its users.

    Args:
        module: Full name of the module.
        name: Name of the member.
        extra: As in `suggest_install`.

    Raises:
        MissingModuleError: As in `suggest_install`.
    """
    with suggest_install(extra):
        return getattr(import_module(module), name)
