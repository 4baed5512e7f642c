"""Functions in a user's file run with the arguments that they accept, or one line says why not."""

from pathlib import Path

import pytest

from medmnist_hf.errors import TrainingError
from medmnist_hf.own_code.running import call_code
from tests.fixtures.own_code import write_code


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import os\n\ndef build(:\n", r"cannot run .*my\.py \(SyntaxError: invalid syntax, line 3\): fix it there"),
        ("\n1 / 0\n", r"cannot run .* \(ZeroDivisionError: division by zero, line 2\): fix it there"),
        ("raise SystemExit(2)\n", r"cannot run .* \(SystemExit: 2, line 1\)"),
        (
            "import layers\n",
            "files next to it are not imported: put all code into one file, or",
        ),
        ("def make(): pass\n", r"has no function build \(it has make\): fix --model-file"),
        ("build = 3\n", r"has no function build \(it has no functions\)"),
        ("def build(width): pass\n", "my.py:build needs width, but is called with num_classes: give it a default"),
        ("import sys\ndef build(): sys.exit(0)\n", r"^my\.py:build failed \(SystemExit: 0, line 2\): fix it there"),
        (
            "def build():\n    raise ValueError('a\\nb')\n",
            r"^my\.py:build failed \(ValueError: a, line 2\): fix",
        ),
    ],
)
def test_a_file_that_cannot_be_run_is_a_one_line_error(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "layers.py").write_text("")
    with pytest.raises(TrainingError, match=expected) as error:
        call_code(f"{write_code(tmp_path, text)}:build", "model_file", {"num_classes": 2})
    assert "\n" not in str(error.value)


def test_a_function_gets_the_arguments_that_it_accepts(tmp_path: Path) -> None:
    file = write_code(tmp_path, "def some(b, c=3): return b, c\ndef rest(**all): return all\ndef none(): return 0\n")
    values = {"a": 1, "b": 2}
    results = [call_code(f"{file}:{name}", "model_file", values) for name in ("some", "rest", "none")]
    assert results == [(2, 3), values, 0]
