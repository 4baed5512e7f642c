"""``scripts/fuzz.py``: it finds and reproduces planted faults, and finds none in the readers of the project."""

import importlib.util
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medmnist_hf.errors import MedMNISTError
from tests.fixtures.paths import ROOT

SCRIPT = ROOT / "scripts" / "fuzz.py"


@pytest.fixture(scope="module")
def program() -> Iterator[Any]:
    sys.path.insert(0, str(SCRIPT.parent))  # as Python does when it runs the script
    specification = importlib.util.spec_from_file_location("fuzz_script", SCRIPT)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses look up their types there
    specification.loader.exec_module(module)
    yield module
    sys.path.remove(str(SCRIPT.parent))


def refuse(path: Path) -> None:
    """A correct reader, which refuses anything but a list of numbers in one line."""
    try:
        numbers = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise MedMNISTError("not JSON") from None
    if not isinstance(numbers, list) or not all(isinstance(number, int) for number in numbers):
        raise MedMNISTError("not a list of numbers")


def escape(path: Path) -> None:
    json.loads(path.read_bytes())[0]


class LoudError(MedMNISTError):
    def __str__(self) -> str:
        return "two\nlines"


def shout(path: Path) -> None:
    if path.read_bytes() != b"[1, 2, 3]":
        raise LoudError("")


def hang(path: Path) -> None:
    if path.read_bytes() != b"[1, 2, 3]":
        time.sleep(5)


@pytest.mark.parametrize(
    ("read", "places"),
    [
        (refuse, set()),
        (
            escape,
            {
                "TypeError",
                "KeyError",
                "IndexError",
                "RecursionError",
                "ValueError",
                "JSONDecodeError",
                "UnicodeDecodeError",
            },
        ),
        (shout, {"message"}),
        (hang, {"TooLongError"}),
    ],
)
def test_anything_but_a_refusal_in_one_line_is_a_fault(
    program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Any, places: set[str]
) -> None:
    monkeypatch.setattr(program, "SECONDS_PER_CASE", 0.05)
    previous = program.signal.signal(program.signal.SIGALRM, program.stop)
    try:
        target = program.Target(b"[1, 2, 3]", tmp_path / "x.json", program.damage_json, read)
        tally = program.fuzz(target, 0, 0.3)
    finally:
        program.signal.signal(program.signal.SIGALRM, previous)
    types = {place.split()[-1] for place in tally.faults}
    assert (types <= places and bool(types)) if places else not types
    assert target.place.read_bytes() == target.sample, "the valid file is restored"
    for fault in tally.faults.values():
        repeated = program.fuzz(target, 0, 0.0, case=fault.case) if read is not hang else tally
        assert fault.place in repeated.faults


@pytest.mark.slow
def test_damage_changes_files_and_depends_only_on_seed_and_number(program: Any, tmp_path: Path) -> None:
    for name, target in program.make_targets(tmp_path).items():
        cases = [program.damaged(target, 0, number) for number in range(30)]
        assert cases == [program.damaged(target, 0, number) for number in range(30)], name
        assert sum(case != target.sample for case in cases) > 20, name
        assert cases[:5] != [program.damaged(target, 1, number) for number in range(5)], name
        target.read(target.place)  # the valid file is accepted


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, random.SystemRandom().randrange(1, 2**32)], ids=["known", "new"])
def test_damaged_files_are_accepted_or_refused_in_one_line(seed: int) -> None:
    """The seed is a fixed one, or a random one that the assertion message names."""
    process = subprocess.run(
        [sys.executable, SCRIPT, "--seconds", "4", "--seed", str(seed)], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, f"seed {seed}: {process.stderr}"
