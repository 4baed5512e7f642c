"""Checked entries for the terminal, and the values that ``--json`` prints."""

import math
from typing import Any

from medmnist_hf import console
from medmnist_hf.errors import counted
from medmnist_hf.leaderboard.protocols import protocols
from medmnist_hf.leaderboard.results import SelectedOn
from medmnist_hf.submissions.check import Checked, Place
from medmnist_hf.submissions.entry import Claim
from medmnist_hf.submissions.rows import Row


def print_checked(checked: Checked) -> None:
    """Print the protocol of an entry, what is claimed and recomputed for each subset, and where it would rank."""
    out, entry = console.terminal(), checked.entry
    if not checked.provenance.comparable:
        out.print(checked.provenance.warning, soft_wrap=True)
    facts = [counted(entry.seeds, "seed"), f"files of size {entry.size}"]
    if entry.image_size != entry.size:
        facts.append(f"input {entry.image_size} ({entry.resize})")
    facts += [f"pretraining {entry.pretraining}", f"adaptation {entry.adaptation}", f"labels {entry.labels}"]
    facts += [f"selected on {entry.selected_on}", f"release {entry.release}"]
    out.print(f"{checked.name}: {entry.method} ({', '.join(facts)})", soft_wrap=True)
    heads = ("subset", "AUC claimed", "recomputed", "ACC claimed", "recomputed", "protocol", "AUC place", "ACC place")
    table = console.table(*heads, text=("subset", "protocol"))
    for row in checked.rows:
        claim = entry.results[row.subset]
        cells = (row.subset, *(_spread(each, name) for name in ("auc", "acc") for each in (claim, row)))
        for place in checked.places.get(row.subset) or (None,):
            table.add_row(*cells, *_cells(place))
            cells = ("",) * len(cells)
    if checked.rows:
        out.print(table)
    for name in dict.fromkeys(place.protocol for places in checked.places.values() for place in places):
        out.print(f"note: protocol {name}: {protocols()[name].description}", soft_wrap=True)
    if entry.selected_on == SelectedOn.TEST:
        out.print("note: results that were selected on the test split are listed apart, without a place")


def checked_facts(checked: Checked) -> dict[str, Any]:
    """Convert a checked entry to values for JSON, with all digits."""
    return {
        "name": checked.name,
        "accepted": not checked.faults,
        "faults": checked.faults,
        "provenance": checked.provenance,
        "entry": checked.entry,
        "rows": checked.rows,
        "places": checked.places,
    }


def _cells(place: Place | None) -> tuple[str, ...]:
    if place is None:
        return "", "-", "-"
    return place.protocol, *("-" if rank is None else f"{rank} of {place.of}" for rank in (place.auc, place.acc))


def _spread(scores: Claim | Row, name: str) -> str:
    value, std = getattr(scores, name), getattr(scores, f"{name}_std")
    digits = str if isinstance(scores, Claim) else "{:.4f}".format
    return digits(value) if math.isnan(std) else f"{digits(value)} ± {digits(std)}"
