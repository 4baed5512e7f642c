"""The robustness of runs of a card's model, as a table of the card; `medmnist-hf robustness` writes it to the folder.

The runs of a card leave no models, so their robustness is that of runs made with `medmnist-hf finetune`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.benchmark.tables import ABSENT, Column, Line, Table, TableCell, digits
from medmnist_hf.training.robustness.results import RESULT_NAME, Robustness, read_robustness

ROBUSTNESS: Final = "robustness"
"""Folder of reports within that of a card, each in a folder of any name."""

READING: Final = (
    "Errors of runs of this model on test images with the corruptions of MedMNIST-C, relative to AlexNet: below 1 is "
    "better than AlexNet. BE compares errors, rBE their increase over clean images, which for some divides "
    "by small numbers: read BE first."
)


def robustness_of(out: Path, model: str) -> tuple[Robustness, ...]:
    """Read the reports in the folder of a card, by the names of their folders.

    Args:
        out: Folder of the card.
        model: Model of the card.

    Raises:
        TrainingError: A report is damaged, or is of another model.
    """
    found = []
    for path in sorted(out.glob(f"{ROBUSTNESS}/*/{RESULT_NAME}")):
        result = read_robustness(path)
        if result.model != model:
            raise TrainingError(f"{path} is of {result.model}, but the card is of {model}: move {path.parent} away")
        found.append(result)
    return tuple(found)


def robustness_table(results: Sequence[Robustness]) -> Table:
    """A line for each report."""
    numbers = ("Size", "BE", "rBE", "Clean error", "Corruptions")
    columns = (Column("Subset"), Column("Run"), *(Column(name, numeric=True) for name in numbers), Column("Notes"))
    return Table("Robustness on test", columns, tuple(Line("own", tuple(_cells(result))) for result in results))


def _cells(result: Robustness) -> Iterator[TableCell]:
    errors = result.errors
    yield TableCell(result.provenance.mark(errors.subset))
    yield TableCell(" ".join(filter(None, (result.method, result.suffix))) or ABSENT)
    yield TableCell(str(result.identity.size))
    yield from (TableCell(digits(value)) for value in (errors.be, errors.rbe, errors.clean))
    yield TableCell(f"{len(errors.raw_scores)} of {len(errors.raw_scores) + len(errors.missing)}")
    notes = [*result.caveats, *result.notes, *(f"{name}: {mark}." for name, mark in errors.marks.items())]
    yield TableCell(" ".join(notes) or ABSENT)
