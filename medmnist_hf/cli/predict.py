"""The command that predicts images with the model of a run: ``medmnist-hf predict``."""

from pathlib import Path
from typing import Annotated

import typer

from medmnist_hf import console
from medmnist_hf.cli.options.data import RootToRead
from medmnist_hf.console.program import Panel
from medmnist_hf.errors import BuildError, TrainingError, cannot_write, counted
from medmnist_hf.extras import require_modules, suggest_install
from medmnist_hf.files import write_atomically


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command(epilog="Example: medmnist-hf predict --run runs/mine --images breastmnist --out predicted.csv")(
        predict
    )


@suggest_install("train")
def predict(
    *,
    run: Annotated[Path, Panel.MODEL.option(help="Folder of a finished run.")],
    seed: Annotated[
        int | None, Panel.MODEL.option(help="Seed whose model predicts.", show_default="the best on validation")
    ] = None,
    ensemble: Annotated[
        bool, Panel.MODEL.option("--ensemble", help="Average the scores of the models of all seeds.")
    ] = False,
    model_file: Annotated[
        str | None,
        Panel.MODEL.option(
            metavar="FILE:NAME",
            help="The function in a Python file that made the network, as my.py:build, if the run used one.",
        ),
    ] = None,
    images: Annotated[
        str,
        Panel.DATA.option(
            metavar="DATA", help="Folder of images, NPZ file with official keys (test_images), or data set."
        ),
    ],
    split: Annotated[
        str | None,
        Panel.DATA.option(help="Split of the file or data set: train, validation or test.", show_default="test"),
    ] = None,
    root: RootToRead = None,
    device: Annotated[
        str, Panel.COMPUTE.option(help="auto, cpu, or an accelerator such as cuda, cuda:1 or mps.")
    ] = "auto",
    batch_size: Annotated[
        int | None, Panel.COMPUTE.option(min=1, help="Images per batch.", show_default="that of the run's evaluation")
    ] = None,
    out: Annotated[Path, Panel.OUTPUT.option(help="Prediction file to write: index,score,... without a header.")],
    table: Annotated[
        Path | None,
        Panel.OUTPUT.option(help="Also write a CSV file with a header: image, predicted label, and scores by label."),
    ] = None,
    quiet: Annotated[bool, Panel.OUTPUT.option("--quiet", help="Print no progress.")] = False,
) -> None:
    """Predict images with the model of a run, with the preprocessing of its training.

    Images of a folder are sorted by name, numbers by their value. They must have the size and the channels of the
    images of the run.
    """
    if ensemble and seed is not None:
        raise TrainingError("--ensemble uses all seeds and --seed one: leave one of them out")
    require_modules("train", "torch", "transformers")
    # torch takes seconds to import, so --help must not import it.
    from medmnist_hf.evaluation.prediction_files import write_scores
    from medmnist_hf.training.prediction.predict import RunModels
    from medmnist_hf.training.running import process_state

    models = RunModels.of(run, seed=seed, ensemble=ensemble, model_file=model_file)
    inputs = models.inputs(images, split=split, root=root)
    place = process_state(device).device
    recipe, seeds = models.recipe, ", ".join(map(str, models.seeds))
    if not quiet:
        console.echo(
            f"{recipe.model} on {recipe.dataset} {recipe.size}, {recipe.method}, seed {seeds}\n"
            f"  images   {inputs.where}: {inputs.count:,}\n  device   {place}",
            err=True,
        )
    total = inputs.count * len(models.seeds)
    with console.progress() as progress:
        task = progress.add_task("predicting", total=total, visible=not quiet)
        scores = models.scores(
            inputs, place, batch_size=batch_size, on_progress=lambda count: progress.advance(task, count)
        )
    write_scores(out, scores)
    if table is not None:
        try:
            table.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(table, models.table(inputs, scores))
        except OSError as error:
            raise BuildError(cannot_write(table, error, "choose another file")) from None
    console.echo(f"scores of {counted(inputs.count, 'image')} in {' and '.join(map(str, filter(None, (out, table))))}")
