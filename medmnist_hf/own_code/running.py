"""Run a function in a Python file of the user, because the user named it."""

import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from medmnist_hf.errors import TrainingError, first_line
from medmnist_hf.files import expand_user
from medmnist_hf.own_code.names import check_code, code_digest, dashed, public_code, read_code

OWN_ERRORS: Final = (Exception, SystemExit)
"""What code of the user may raise; a `SystemExit` would end the command as if it had succeeded."""

_MODULE: Final = "medmnist_own_"
"""Names of modules of the user begin with it."""

_VARIABLE: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@cache
def load_code(name: str, option: str) -> Callable[..., Any]:
    """Run the file of a name, once per process, and return the function.

    Raises:
        TrainingError: As `pin_code`; running the file fails, or it has no such function.
    """
    match, path = check_code(name, option), _path(name)
    content = read_code(match, option)
    module = ModuleType(f"{_MODULE}{code_digest(content)}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and type hints look their module up
    try:
        exec(compile(content, str(path), "exec", dont_inherit=True), module.__dict__)
    except OWN_ERRORS as error:
        raise TrainingError(f"cannot run {match['file']} ({explain(error, name)}): {_advice(error, path)}") from None
    function: Any = getattr(module, match["function"], None)
    if not callable(function):
        names = [key for key, value in vars(module).items() if inspect.isfunction(value) and not key.startswith("_")]
        has = f"it has {', '.join(names)}" if names else "it has no functions"
        raise TrainingError(f"{match['file']} has no function {match['function']} ({has}): fix --{dashed(option)}")
    return function  # type: ignore[no-any-return]


def call_code(name: str, option: str, values: Mapping[str, Any]) -> Any:
    """Call a function with those of some keyword arguments that it accepts.

    Raises:
        TrainingError: As `load_code`; the function needs other arguments, or fails.
    """
    function = load_code(name, option)
    accepted, takes_all = parameters_of(function)
    needed = [key for key, has_default in accepted.items() if not has_default and key not in values]
    if needed:
        raise TrainingError(
            f"{public_code(name)} needs {', '.join(needed)}, but is called with {', '.join(values)}: give it a default"
        )
    try:
        return function(**{key: value for key, value in values.items() if takes_all or key in accepted})
    except OWN_ERRORS as error:
        raise TrainingError(f"{public_code(name)} failed ({explain(error, name)}): fix it there") from None


def parameters_of(function: Callable[..., Any]) -> tuple[dict[str, bool], bool]:
    """The parameters of a function: name -> whether it has a default; and whether it takes any keyword."""
    listed = inspect.signature(function).parameters.values()
    named = {each.name: each.default is not each.empty for each in listed if each.kind not in _VARIABLE}
    return named, any(each.kind is each.VAR_KEYWORD for each in listed)


def explain(error: BaseException, name: str) -> str:
    """Describe an error in one line, with the line of the user's file that it came from.

    Args:
        error: The error.
        name: Name of a function in the file.
    """
    path = str(_path(name))
    lines: list[int | None] = [
        line
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).startswith(_MODULE)
    ]
    if isinstance(error, SyntaxError) and error.filename == path:
        lines, error = [error.lineno], SyntaxError(error.msg)
    text, kind = first_line(error), type(error).__name__
    return (text if text == kind else f"{kind}: {text}") + (f", line {lines[-1]}" if lines else "")


def describe_value(value: Any) -> str:
    """Describe what a function returned: type and shape of an array or tensor, or the class of anything else."""
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        return f"a {type(value).__name__}"
    return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"


def _path(name: str) -> Path:
    return expand_user(name[: name.rindex(".py:") + 3]).absolute()


def _advice(error: BaseException, path: Path) -> str:
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing and (path.with_name(f"{missing}.py").exists() or path.with_name(missing).is_dir()):
        return "files next to it are not imported: put all code into one file, or install it as a package"
    return "fix it there"
