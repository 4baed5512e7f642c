"""Feed damaged files to every reader of the project, and count those that are not refused in one line.

A case is a valid file with a few faults, in its bytes or in its content. A reader must accept it, or refuse it with an
error of this project in one printable line. Anything else is a fault: another exception, a long or malformed message,
more time than `SECONDS_PER_CASE`, more memory than `SPARE_MEMORY`, or pixels that differ from the file. Cases depend
only on the seed and their number, so a fault can be reproduced: ``--only NAME --seed S --case N``.

Example: python scripts/fuzz.py --seconds 10 --only manifest
"""

import dataclasses
import json
import logging
import random
import resource
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final
from unicodedata import category

import numpy as np
import torch
import typer
from fuzz_damage import damage_bytes, damage_json, damage_lines, damage_members, damage_tensors, damage_text

from medmnist_hf import catalog, console
from medmnist_hf.cards.render import read_audit, write_card
from medmnist_hf.console.program import Program
from medmnist_hf.conversion.build import BuildOptions, build_config
from medmnist_hf.conversion.checks.audit import audit_config
from medmnist_hf.conversion.sources.source import Phantom
from medmnist_hf.data.array_cache import cache_info
from medmnist_hf.data.configs import open_config
from medmnist_hf.data.decode import decode_image
from medmnist_hf.data.npz_reader import NpzReader
from medmnist_hf.data.rows import BuiltRows, open_rows
from medmnist_hf.errors import MedMNISTError, first_line
from medmnist_hf.evaluation.evaluate import evaluate_file
from medmnist_hf.evaluation.labels import read_labels
from medmnist_hf.evaluation.prediction_files import read_predictions
from medmnist_hf.exporting.export import export
from medmnist_hf.files import sha256_of
from medmnist_hf.hub.dataset_state import card_head
from medmnist_hf.loading.load import load_arrays
from medmnist_hf.manifest import AUDIT_NAME, MANIFEST_NAME, read_manifest
from medmnist_hf.training.benchmark.matrix import read_matrix
from medmnist_hf.training.models.checkpoints import read_tensors
from medmnist_hf.training.recipe import make_recipe
from medmnist_hf.training.results import read_results, read_seed
from medmnist_hf.training.running import run
from medmnist_hf.vertex import display_names, image_path

app = Program(add_completion=False)

SECONDS_PER_CASE: Final = 20.0
SPARE_MEMORY: Final = 2 << 30
"""Address space in addition to that of the program at its start, in bytes."""

LONGEST_MESSAGE: Final = 2048
UNPRINTABLE: Final = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories that a line must not contain: control characters, surrogates, line and paragraph separators."""

FLAG: Final = "breastmnist"
ROWS: Final = 40
MATRIX: Final = """\
defaults: {root: dist, image_size: 32}
matrix:
  dataset: [breastmnist, pneumoniamnist]
  model: [timm/resnet18, timm/test_resnet]
  method: [finetune, linear-probe]
exclude:
  - {dataset: breastmnist, method: finetune}
include:
  - {dataset: chestmnist, model: timm/resnet18, seeds: [0, 1, 2]}
"""

RECIPE: Final = {
    "dataset": FLAG,
    "model": "timm/test_resnet",
    "image_size": 32,
    "pretrained": False,
    "method": "linear-probe",
}

Damage = Callable[[random.Random, bytes], bytes]


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of file and its reader.

    Attributes:
        sample: Content of a valid file.
        place: Path to which damaged content is written.
        damage: Makes a case from the sample.
        read: Reads the file at `place`.
    """

    sample: bytes
    place: Path
    damage: Damage
    read: Callable[[Path], object]


@dataclass(frozen=True, slots=True)
class Fault:
    """A forbidden behavior of a reader; faults with the same place are counted once.

    Attributes:
        place: File and line in the project, and the type of the exception.
        what: Message of the exception.
        case: Number of the first case with this fault.
    """

    place: str
    what: str
    case: int


@dataclass(slots=True)
class Tally:
    """Results of the cases of one target."""

    cases: int = 0
    refused: int = 0
    seconds: float = 0.0
    faults: dict[str, Fault] = field(default_factory=dict)


class TooLongError(BaseException):
    """A case took more than `SECONDS_PER_CASE`; no reader catches it."""


def make_targets(folder: Path) -> dict[str, Target]:
    """List every kind of file that may come from others, by name; valid files are made from a phantom in `folder`."""
    entry, dist = catalog.subset(FLAG), folder / "dist"
    phantom = Phantom(folder, rows=ROWS).fetch(entry, 28)
    build_config(entry, 28, phantom, dist, options=BuildOptions(max_shard_size=16 * 1024))
    write_card(dist / FLAG)
    config = dist / FLAG / "28"
    manifest = read_manifest(config)
    images = load_arrays(FLAG, 28, "test", root=dist, cache_dir=folder / "cache").images
    picture, vertex, matrix = folder / "image.png", folder / "predictions_0001.jsonl", folder / "matrix.yaml"
    weights = folder / "weights.pth"
    (config / AUDIT_NAME).write_text(audit_config(config).to_json(), encoding="utf-8")
    picture.write_bytes(next(BuiltRows(open_config(FLAG, root=dist)).files("test"))[0])
    vertex.write_text("".join(_vertex_line(row, len(images)) for row in range(len(images))), encoding="utf-8")
    matrix.write_text(MATRIX, encoding="utf-8")
    torch.save({"net": {"conv.weight": torch.ones(4, 3, 3, 3), "conv.bias": torch.ones(4)}}, weights)
    run(make_recipe(RECIPE | {"root": str(dist)}), folder / "run", quiet=True)

    def read_npz(path: Path) -> None:
        reader = NpzReader(path, entry, 28, phantom.counts)
        pixels = np.concatenate(list(reader.images("test", [len(images)])))
        if not np.array_equal(pixels, images):
            raise AssertionError("pixels differ from the file")

    def read_members(path: Path) -> None:
        reader = NpzReader(path, entry, 28, None)
        for split in catalog.NPZ_SPLITS:
            for _ in reader.images(split, [reader.rows(split)]):
                pass

    def read_build_of(path: Path) -> None:
        _call_all(
            lambda: load_arrays(FLAG, 28, "train", root=dist, cache=False),
            lambda: read_labels(FLAG, 28, "train", path.parent),
            lambda: audit_config(path.parent),
            lambda: export(open_rows(FLAG, root=dist), folder / "exported", "npz", force=True),
            lambda: write_card(path.parent.parent),
        )

    def read_shard(path: Path) -> None:
        first, *others = manifest.splits["train"].shards
        recorded = dataclasses.replace(first, bytes=path.stat().st_size, sha256=sha256_of(path))
        record = dataclasses.replace(manifest.splits["train"], shards=(recorded, *others))
        changed = dataclasses.replace(manifest, splits=manifest.splits | {"train": record})
        (config / MANIFEST_NAME).write_text(changed.to_json(), encoding="utf-8")
        try:
            read_build_of(path)
        finally:
            (config / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")

    def read_picture(path: Path) -> None:
        decoded = np.empty((28, 28), np.uint8)
        try:
            decode_image(np.frombuffer(path.read_bytes(), np.uint8), decoded)
        except ValueError as error:
            raise MedMNISTError(str(error)) from None
        if not np.array_equal(decoded, images[0]):
            raise AssertionError("pixels differ from the file")

    best = folder / "run" / "seed-0" / "best"
    csv = next((folder / "run" / "seed-0").glob("*_test_*.csv"))
    kinds: dict[str, tuple[Path, Damage, Callable[[Path], object]]] = {
        "npz": (phantom.path, damage_bytes, read_npz),
        "npz members": (phantom.path, damage_members, read_members),
        "npz labels": (phantom.path, damage_members, lambda path: read_labels(FLAG, 28, "test", path)),
        "manifest": (config / MANIFEST_NAME, damage_json, read_build_of),
        "shard": (config / manifest.splits["train"].shards[0].name, damage_bytes, read_shard),
        "image": (picture, damage_bytes, read_picture),
        "audit": (config / AUDIT_NAME, damage_json, lambda path: read_audit(path.parent)),
        "card": (
            dist / FLAG / "README.md",
            damage_text,
            lambda path: card_head(path.read_bytes().decode(errors="replace"), str(path)),
        ),
        "array cache": (
            next((folder / "cache").rglob("info.json")),
            damage_json,
            lambda _: cache_info(folder / "cache"),
        ),
        "recipe": (folder / "run" / "recipe.yaml", damage_text, lambda path: make_recipe({}, config=path)),
        "matrix": (matrix, damage_text, read_matrix),
        "results": (folder / "run" / "results.json", damage_json, read_results),
        "seed": (folder / "run" / "seed-0" / "result.json", damage_json, lambda path: read_seed(path.parent)),
        "predictions": (csv, damage_text, lambda path: evaluate_file(path, data=dist)),
        "vertex": (vertex, damage_lines, read_predictions),
        "checkpoint": (best / "model.safetensors", damage_tensors, read_tensors),
        "torch weights": (weights, damage_bytes, read_tensors),
    }
    return {name: Target(path.read_bytes(), path, damage, read) for name, (path, damage, read) in kinds.items()}


def _vertex_line(row: int, rows: int) -> str:
    entry = catalog.subset(FLAG)
    names = display_names(entry)
    instance = {"content": f"gs://bucket/{image_path(FLAG, 'test', row, rows)}", "mimeType": "image/png"}
    prediction = {"ids": ["1", "2"], "displayNames": list(names), "confidences": [0.25, 0.75]}
    return json.dumps({"instance": instance, "prediction": prediction}) + "\n"


def _call_all(*readers: Callable[[], object]) -> None:
    """Call all readers, each of which may refuse, and raise the last refusal at the end."""
    refusal: MedMNISTError | None = None
    for reader in readers:
        try:
            reader()
        except MedMNISTError as error:
            _check_message(error)
            refusal = error
    if refusal is not None:
        raise refusal


def _check_message(error: MedMNISTError) -> None:
    message = str(error)
    if not message or len(message) > LONGEST_MESSAGE or any(category(letter) in UNPRINTABLE for letter in message):
        raise AssertionError(f"a message of {len(message)} letters is not one printable line: {message[:200]!r}")


def fuzz(target: Target, seed: int, seconds: float, case: int | None = None) -> Tally:
    """Read damaged files for some time, or a single one.

    Args:
        target: Kind of file to damage and read.
        seed: Seed of the damage.
        seconds: Time after which to stop.
        case: Number of a single case; None for all cases from 0.
    """
    tally, start, number = Tally(), time.monotonic(), case or 0
    while True:
        target.place.write_bytes(damaged(target, seed, number))
        fault = _read(target, number, tally)
        if fault is not None:
            tally.faults.setdefault(fault.place, fault)
        number, tally.cases, tally.seconds = number + 1, tally.cases + 1, time.monotonic() - start
        if case is not None or tally.seconds >= seconds:
            break
    target.place.write_bytes(target.sample)
    return tally


def damaged(target: Target, seed: int, number: int) -> bytes:
    """Make the content of a case."""
    return target.damage(random.Random(f"{seed}:{number}"), target.sample)


def _read(target: Target, number: int, tally: Tally) -> Fault | None:
    signal.setitimer(signal.ITIMER_REAL, SECONDS_PER_CASE)
    try:
        target.read(target.place)
    except MedMNISTError as error:
        tally.refused += 1
        try:
            _check_message(error)
        except AssertionError as fault:
            return Fault(f"{_place_of(error)} message", str(fault), number)
    except (Exception, TooLongError) as error:
        return Fault(f"{_place_of(error)} {type(error).__name__}", first_line(error), number)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None


def _place_of(error: BaseException) -> str:
    """File and line in the project where an error was raised."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "medmnist_hf" in frame.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"


def stop(*_: object) -> None:
    """End a case; this is the handler of the alarm signal."""
    raise TooLongError(f"more than {SECONDS_PER_CASE:g} s")


@app.command(epilog="Example: python scripts/fuzz.py --seconds 10 --only manifest --only recipe")
def main(
    seconds: Annotated[float, typer.Option(min=0.1, help="Seconds per kind of file.")] = 10.0,
    only: Annotated[list[str] | None, typer.Option(help="Kinds of files; repeatable. [default: all]")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the damage.")] = 0,
    case: Annotated[int | None, typer.Option(min=0, help="Run only the case with this number.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Folder to which files that cause faults are written.")] = None,
) -> None:
    """Damage files of every kind and read them. The exit code is 1 if a fault was found."""
    signal.signal(signal.SIGALRM, stop)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        targets = make_targets(Path(folder))
        for name in only or ():
            if name not in targets:
                raise MedMNISTError(f"unknown kind of file {name!r}: choose from {', '.join(targets)}")
        resource.setrlimit(resource.RLIMIT_AS, (_address_space() + SPARE_MEMORY, resource.RLIM_INFINITY))
        table = console.table("file", "cases", "refused", "faults", "cases/s", text={"file"})
        faults = 0
        for name in only or targets:
            tally = fuzz(targets[name], seed, seconds, case)
            counts = tally.cases, tally.refused, len(tally.faults), round(tally.cases / tally.seconds)
            table.add_row(name, *(f"{count:,}" for count in counts))
            faults += len(tally.faults)
            for fault in tally.faults.values():
                console.print_error(f"{name}, case {fault.case}: {fault.place}: {fault.what[:200]!r}")
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    kept = keep / f"{fault.case}-{targets[name].place.name}"
                    kept.write_bytes(damaged(targets[name], seed, fault.case))
        console.terminal().print(table)
    if faults:
        raise typer.Exit(1)


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    console.run(app)
