"""JSON files in the form of the package medmnistc, which others publish and compare.

A file ``SUBSET_ARCHITECTURE_SUFFIX.json`` holds errors as numbers, each corruption as the mean of its severities::

    {"metrics": {"clean_score": ..., "be": ..., "rbe": ...},
     "be_scores": {corruption: ...}, "rbe_scores": {corruption: ...}, "raw_scores": {corruption: ...}}

``clean_score`` and ``raw_scores`` are errors, although their names say otherwise; the other values follow from them.
Files of this project on data or corruptions of another kind have a list ``caveats``, too.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from medmnist_hf.corruptions.measures import BalancedErrors, balanced_errors
from medmnist_hf.documents import parse_json
from medmnist_hf.errors import CatalogError, ScoreError, cannot_read, one_line
from medmnist_hf.files import read_document
from medmnist_hf.typed_json import Sentence, Share, decode

_NAME: Final = re.compile(r"(?P<subset>[^_]+)_(?P<architecture>.+?)(?:_(?P<suffix>[^_]*))?\.json")
_TOLERANCE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class PublishedErrors:
    """The content of such a file.

    Attributes:
        path: Its path.
        architecture: Name of the model, from the name of the file.
        suffix: Further name, such as that of a seed; may be empty.
        errors: Clean error and errors by corruption as in the file; BE and rBE are recomputed from them.
        differences: Where BE or rBE in the file differ from those recomputed, a line each.
        caveats: Why the errors are not comparable, as the file says; files of medmnistc have none.
    """

    path: Path
    architecture: str
    suffix: str
    errors: BalancedErrors
    differences: tuple[str, ...]
    caveats: tuple[str, ...] = ()


def published_name(subset: str, architecture: str, suffix: str) -> str:
    """The name of such a file; characters that are not for file names become hyphens, ``_`` in the suffix too."""
    model = re.sub(r"[^A-Za-z0-9._-]+", "-", architecture)
    return f"{subset}_{model}_{re.sub(r'[^A-Za-z0-9.-]+', '-', suffix)}.json"


def published_json(errors: BalancedErrors, caveats: Sequence[str] = ()) -> str:
    """The text of such a file.

    Args:
        errors: Errors of a model.
        caveats: Why they are not comparable, a line each.
    """
    metrics = {"clean_score": errors.clean, "be": errors.be, "rbe": errors.rbe}
    scores = {"be_scores": errors.be_scores, "rbe_scores": errors.rbe_scores, "raw_scores": errors.raw_scores}
    marked = {"caveats": list(caveats)} if caveats else {}
    return json.dumps({**marked, "metrics": metrics, **scores}, indent=4) + "\n"


def read_published(path: Path) -> PublishedErrors:
    """Read such a file, recompute its BE and rBE, and compare them with those that it states.

    Args:
        path: The file; its name says what it is of.

    Raises:
        ScoreError: It cannot be read, its name or content has another form, or it names a subset without corruptions,
            or a corruption that its subset does not have.
    """
    named = _NAME.fullmatch(path.name)
    if named is None:
        raise ScoreError(
            f"{path} does not say what it is of: name it SUBSET_ARCHITECTURE_SUFFIX.json, e.g. "
            f"{published_name('breastmnist', 'resnet18', 'seed0')}"
        )
    try:
        table: dict[str, Any] = decode(parse_json(read_document(path)), dict[str, Any])
        clean = _value(_part(table, "metrics"), "metrics", "clean_score")
        raw: dict[str, float] = decode(_part(table, "raw_scores"), dict[str, Share], "raw_scores")
        errors = balanced_errors(named["subset"], decode(clean, Share, "metrics.clean_score"), raw)
        differences = tuple(_differences(table, errors))
        caveats: tuple[str, ...] = decode(table.get("caveats", []), tuple[Sentence, ...], "caveats")
    except OSError as error:
        raise ScoreError(cannot_read(path, error, "name another file")) from None
    except (ValueError, ScoreError, CatalogError) as error:
        raise ScoreError(f"{path} is not a file of medmnistc ({one_line(error)}): name another file") from None
    return PublishedErrors(path, named["architecture"], named["suffix"] or "", errors, differences, caveats)


def _part(table: Mapping[str, Any], name: str) -> dict[str, Any]:
    if name not in table:
        raise ValueError(f"it lacks {name}")
    part: dict[str, Any] = decode(table[name], dict[str, Any], name)
    return part


def _value(table: Mapping[str, Any], where: str, name: str) -> float:
    if name not in table:
        raise ValueError(f"{where} lacks {name}")
    value: float = decode(table[name], float, f"{where}.{name}")
    return value


def _differences(table: Mapping[str, Any], errors: BalancedErrors) -> Iterator[str]:
    metrics = _part(table, "metrics")
    for name, value in (("be", errors.be), ("rbe", errors.rbe)):
        yield from _difference(_value(metrics, "metrics", name), value, name)
    for part, values in (("be_scores", errors.be_scores), ("rbe_scores", errors.rbe_scores)):
        stated = _part(table, part)
        for name, value in values.items():
            yield from _difference(_value(stated, part, name), value, f"{part}.{name}")


def _difference(stated: float, value: float, name: str) -> Iterator[str]:
    if not math.isclose(stated, value, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
        yield f"{name} is {stated:.6g}, but its raw_scores give {value:.6g}"
