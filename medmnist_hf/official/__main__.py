"""``python -m medmnist_hf.official``: the commands of ``python -m medmnist``.

Arguments are given by name (``--flag=pathmnist``) or in order (``info pathmnist``), as there.
"""

import argparse
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, cast

from medmnist_hf.console import print_error, run
from medmnist_hf.official import commands

PROGRAM: Final = "python -m medmnist_hf.official"

COMMANDS: Final[dict[Callable[..., None], str]] = {
    commands.available: "available",
    commands.download: "download --size=64 --root=npz",
    commands.clean: "clean --root=npz",
    commands.info: "info --flag=pathmnist",
    commands.save: "save --flag=breastmnist --folder=files --root=npz",
    commands.evaluate: "evaluate --path='breastmnist_test_[AUC]0.901_[ACC]0.863@mine.csv' --root=npz",
}
"""Command -> an example of it."""

HELP: Final = {
    "download": "download the official file unless the root has it: True or False",
    "flag": "subset, such as pathmnist",
    "folder": "folder to write to",
    "path": "prediction file, {flag}{size_flag}_{split}@{run}.csv",
    "postfix": "suffix of the files, such as png or jpg",
    "root": "folder of NPZ files",
    "size": "edge length in pixels or voxels, 28 by default",
}
_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        print_error(f"{message} (see {self.prog} --help)")
        sys.exit(2)


def main(arguments: Sequence[str], **_: object) -> None:
    """Parse the arguments of a command line and run its command; exits with code 2 for wrong usage."""
    parser = _Parser(
        prog=PROGRAM, description="Commands of the official package.", epilog=f"Example: {PROGRAM} available"
    )
    verbs = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    parsers = {command.__name__: _add(verbs, command, example) for command, example in COMMANDS.items()}
    given = vars(parser.parse_args(arguments))
    name, values = given.pop("command"), given.pop("values")
    parameters = inspect.signature(getattr(commands, name)).parameters
    free = [parameter for parameter in parameters if parameter not in given]
    if len(values) > len(free):
        parsers[name].error(f"unexpected value {values[len(free)]}")
    given |= dict(zip(free, values, strict=False))
    given = {name: text for name, text in given.items() if text != "None"}
    for parameter in parameters.values():
        if parameter.default is inspect.Parameter.empty and parameter.name not in given:
            parsers[name].error(f"--{parameter.name} is missing")
        if parameter.annotation is bool and parameter.name in given:
            text = given[parameter.name]
            if text.lower() not in _FLAGS:
                parsers[name].error(f"--{parameter.name} is True or False, not {text}")
            given[parameter.name] = _FLAGS[text.lower()]
    getattr(commands, name)(**given)
    sys.stdout.flush()


def _add(verbs: Any, command: Callable[..., None], example: str) -> argparse.ArgumentParser:
    about = inspect.cleandoc(command.__doc__ or "").partition("\n")
    verb: argparse.ArgumentParser = verbs.add_parser(
        command.__name__, help=about[0], description=" ".join(about).strip(), epilog=f"Example: {PROGRAM} {example}"
    )
    for parameter in inspect.signature(command).parameters.values():
        flag: dict[str, Any] = {"nargs": "?", "const": "True"} if parameter.annotation is bool else {}
        verb.add_argument(f"--{parameter.name}", default=argparse.SUPPRESS, help=HELP[parameter.name], **flag)
    verb.add_argument("values", nargs="*", metavar="VALUE", help="values in this order, without names")
    return verb


def start() -> NoReturn:
    """Run the command line of this process."""
    run(cast(Any, main), name=PROGRAM)


if __name__ == "__main__":
    start()
