"""``scripts/render_cards.py``, run from the command line."""

import subprocess
import sys

from tests.fixtures.paths import ROOT

SCRIPT = ROOT / "scripts" / "render_cards.py"


def test_check_passes_on_the_committed_cards() -> None:
    process = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout, process.stderr) == (0, "all cards are up to date\n", "")


def test_help_names_an_example() -> None:
    process = subprocess.run([sys.executable, SCRIPT, "--help"], capture_output=True, text=True, check=True)
    assert "Example: python scripts/render_cards.py --check" in process.stdout
