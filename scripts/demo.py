"""Demonstrate the whole workflow on synthetic data: build, verify, load, show samples, train, score.

Example: python scripts/demo.py --out dist/demo
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import datasets
import numpy as np
import typer

from medmnist_hf import console, load
from medmnist_hf.cards.render import write_card
from medmnist_hf.console.program import Program
from medmnist_hf.conversion.batch import build_all, plan_run, usable_cores
from medmnist_hf.conversion.build import BuildOptions
from medmnist_hf.conversion.checks.verify import verify_config
from medmnist_hf.conversion.sources.source import open_source
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.extras import suggest_install

app = Program(add_completion=False)

SUBSETS: Final = ("pneumoniamnist", "pathmnist", "retinamnist", "chestmnist", "organmnist3d")
"""One subset per task, and one with volumes."""

ROWS: Final = 256
"""Rows of the train split: just enough for a small network to learn the classes of a phantom within seconds."""

LEARNED: Final = 0.95
"""Validation AUC that the trained model must exceed. Classes of a phantom are easy to separate; guessing gives 0.5."""


def _sample(subset: str, train: Any) -> str:
    row = train[0]
    pixels, label, feature = np.asarray(row["image"]), row["label"], train.features["label"]
    ids = label if isinstance(label, list) else [label]
    names = getattr(feature, "feature", feature).int2str(ids) or ["no finding"]
    shape = "x".join(map(str, pixels.shape))
    return f"{subset:15s} {len(train):3d} rows in train, first row: {shape} uint8, {'; '.join(names)} {ids}"


class Part(StrEnum):
    """Part of the demo."""

    ALL = "all"
    DATA = "data"
    TRAINING = "training"


@app.command(epilog="Example: python scripts/demo.py --out dist/demo")
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the builds.")] = Path("dist/demo"),
    part: Annotated[
        Part, typer.Option(help="data needs only the extra build; training needs the builds of data.")
    ] = Part.ALL,
) -> None:
    """Build five phantom subsets, verify them against their source, load them, and check that a model learns."""
    if part is not Part.TRAINING:
        _show_data(out)
    if part is not Part.DATA:
        with suggest_install("train"):
            check_learned(_train(out))


def _show_data(out: Path) -> None:
    datasets.disable_progress_bars()
    source, options = open_source("phantom", phantom_rows=ROWS), BuildOptions(threads=usable_cores())
    print(f"building {', '.join(SUBSETS)} at size 28 from phantoms (synthetic data of no patient)")
    outcomes = build_all(plan_run(SUBSETS, ["28"], source, options), source, out, options, write_card=write_card)
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
        file = source.fetch(outcome.planned.subset, outcome.planned.size)
        verified = verify_config(out / outcome.planned.subset.flag / "28", file)
        print(f"verified {verified.subset}: {verified.rows} rows in {verified.shards} shards equal the NPZ file")
    print(f'\nload_dataset("{out}/{SUBSETS[0]}", "28")')
    for subset in SUBSETS:
        print(_sample(subset, load(subset, 28, split="train", root=out)))
    print("\npictures, cards and shards:")
    for subset in SUBSETS:
        picture = next((out / subset).glob("montage.*"))
        print(f"  {picture}  {out / subset / 'README.md'}")


def check_learned(auc: float) -> None:
    """Raise a `MedMNISTError` unless the validation AUC shows that a model has learned."""
    if not auc > LEARNED:
        raise MedMNISTError(
            f"the model learned too little: validation AUC {auc:.3f} is not above {LEARNED}; "
            "the phantom, its build or the training is faulty: run `make test`"
        )
    print(
        f"learned: validation AUC {auc:.3f}, above {LEARNED}; the data is synthetic, "
        "so this is not comparable with published results"
    )


def _train(out: Path) -> float:
    from medmnist_hf.training.recipe import make_recipe  # torch takes seconds to import
    from medmnist_hf.training.report.terminal import print_results
    from medmnist_hf.training.running import run

    options = {"dataset": SUBSETS[0], "root": str(out), "model": "timm/test_efficientnet", "pretrained": False}
    recipe = make_recipe({**options, "epochs": 5, "batch_size": 16, "seeds": (0,)})
    print(f"\ntraining {recipe.model} from scratch on the phantom of {recipe.dataset}:")
    result = run(recipe, out / "run")
    print_results(result, out / "run")
    return result.validation.auc.mean


if __name__ == "__main__":
    console.run(app)
