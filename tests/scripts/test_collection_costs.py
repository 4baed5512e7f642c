import re
import subprocess
import sys
import tomllib

from medmnist_hf.catalog import subsets
from tests.fixtures.paths import ROOT

SCRIPT = ROOT / "scripts" / "collection_costs.py"


def test_the_page_shows_what_the_script_prints() -> None:
    printed = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=True).stdout
    assert printed.strip() in (ROOT / "docs" / "many-machines.md").read_text(encoding="utf-8")
    assert f"download {sum(len(entry.sizes) for entry in subsets())} NPZ files" in printed


def test_every_assumption_has_a_source() -> None:
    text = SCRIPT.with_suffix(".toml").read_text(encoding="utf-8")
    assumptions = tomllib.loads(text)
    assert set(assumptions["npz_megabytes"]) == {entry.flag for entry in subsets() if entry.ndim == 2}
    assert re.findall(r"https?://\S+", text) or "docs/performance.md" in text
