"""A tiny model on phantoms: its errors, resumed measurements, and data that does not fit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from medmnist_hf.corruptions.measures import balanced_error
from medmnist_hf.corruptions.npz import write_corrupted
from medmnist_hf.corruptions.registry import find_corruption
from medmnist_hf.data.rows import BuiltRows
from medmnist_hf.errors import CatalogError, MedMNISTError, TrainingError
from medmnist_hf.evaluation.prediction_files import files_of_split, read_predictions
from medmnist_hf.scoring.predictions import check
from medmnist_hf.training.robustness.measure import Bench, choose_corruptions, measure, passes
from medmnist_hf.training.robustness.subject import Subject
from medmnist_hf.training.running import run
from tests.conftest import Phantoms
from tests.fixtures.runs import build_all, tiny

CPU = torch.device("cpu")
NAMES = ("clean", "pixelate", "brightness_down")


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_all(phantoms, tmp_path_factory.mktemp("dist"), "retinamnist", "breastmnist", "adrenalmnist3d")


@pytest.fixture(scope="module")
def subject(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    out = tmp_path_factory.mktemp("run") / "mine"
    run(tiny(root, "retinamnist", epochs=4, learning_rate=0.01), out, quiet=True)
    return Subject.of_run(out)


def test_the_clean_error_is_that_of_the_run(subject: Subject, tmp_path: Path) -> None:
    bench = Bench.open(subject, tmp_path)
    identity = measure(bench, ["clean"], CPU)
    clean = bench.stored("clean", identity)
    (file,) = files_of_split(subject.folders[0].parent, "test")
    labels = BuiltRows(bench.config).targets("test")
    own = check(labels, read_predictions(file).scores, "ordinal-regression", num_classes=5)
    assert clean is not None and clean.error == balanced_error(own)
    assert bench.report(identity) is None


def test_measurements_do_not_depend_on_batches_and_threads(subject: Subject, tmp_path: Path) -> None:
    counts: list[int] = []
    found = []
    for name, batch_size, threads in (("one", None, 1), ("many", 7, 3)):
        bench = Bench.open(subject, tmp_path / name)
        identity = measure(bench, NAMES, CPU, batch_size=batch_size, threads=threads, on_progress=counts.append)
        result = bench.report(identity)
        assert result is not None
        found.append(result)
    assert sum(counts) == 2 * passes(NAMES) * bench.rows == 22 * bench.rows
    first, second = ([each.error for each in result.corruptions] for result in found)
    assert first == pytest.approx(second)
    assert [each.corruption for each in found[0].corruptions] == ["pixelate", "brightness_down"]
    assert [len(each.scores) for each in (found[0].clean, *found[0].corruptions)] == [1, 5, 5]
    assert found[0].marks == ("synthetic", "size28", "incomplete")


def test_an_interrupted_measurement_resumes_with_the_same_result(subject: Subject, tmp_path: Path) -> None:
    whole = Bench.open(subject, tmp_path / "whole")
    identity = measure(whole, NAMES, CPU)

    def stop(name: str) -> None:
        if name == "brightness_down":
            raise KeyboardInterrupt

    bench = Bench.open(subject, tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        measure(bench, NAMES, CPU, on_start=stop)
    written = [bench.path(name) for name in NAMES[:2]]
    times = [path.stat().st_mtime_ns for path in written]
    assert not bench.path("brightness_down").exists()
    measure(bench, NAMES, CPU)
    assert [path.stat().st_mtime_ns for path in written] == times
    first, second = whole.report(identity), bench.report(identity)
    assert first and second and first.errors == second.errors
    measure(bench, NAMES[:1], CPU, force=True)  # as a task of an engine does
    assert written[0].stat().st_mtime_ns > times[0] and written[1].stat().st_mtime_ns == times[1]


def test_files_give_the_errors_of_images_that_are_corrupted_here(subject: Subject, tmp_path: Path) -> None:
    here = Bench.open(subject, tmp_path / "here")
    write_corrupted(BuiltRows(here.config), find_corruption("retinamnist", "gaussian_noise"), tmp_path / "npz")
    files = Bench.open(subject, tmp_path / "files", corrupted=tmp_path / "npz")
    found = []
    for bench in (here, files):
        identity = measure(bench, ["gaussian_noise"], CPU)
        noise = bench.stored("gaussian_noise", identity)
        assert noise is not None
        found.append(noise.scores)
    assert found[0] == found[1]
    with pytest.raises(TrainingError, match="is of another model or of other data"):
        files.stored("gaussian_noise", here.identity())
    with pytest.raises(TrainingError, match=r"pixelate\.npz is missing"):
        measure(files, ["pixelate"], CPU)


def test_what_is_of_another_model_or_damaged_is_refused(subject: Subject, tmp_path: Path) -> None:
    bench = Bench.open(subject, tmp_path)
    identity = measure(bench, ["clean"], CPU)
    with pytest.raises(TrainingError, match="is of another model or of other data: name another --out"):
        bench.stored("clean", replace(identity, weights_sha256="f" * 64))
    assert bench.path("clean").exists()
    bench.path("pixelate").write_text(bench.path("clean").read_text())
    bench.discard((), identity)
    assert bench.path("clean").exists() and not bench.path("pixelate").exists()
    bench.path("clean").write_text("{")
    with pytest.raises(TrainingError, match=r"cannot read .*clean\.json .*: remove it and run again"):
        measure(bench, ["clean"], CPU)


def test_data_that_does_not_fit_the_model_is_refused(subject: Subject, root: Path, tmp_path: Path) -> None:
    for name, other in (("breastmnist", "breastmnist at size 28"), ("retinamnist-224", "retinamnist at size 224")):
        with pytest.raises(TrainingError, match=f"was trained on retinamnist at size 28, not on {other}: "):
            Bench.open(subject, tmp_path, name, root=root)
    with pytest.raises(TrainingError, match="not on breastmnist at size 28"):
        Bench.open(subject, tmp_path, str(root / "breastmnist"))
    assert Bench.open(subject, tmp_path, str(root / "retinamnist")).rows == Bench.open(subject, tmp_path).rows
    volumes = replace(subject, recipe=tiny(root, "adrenalmnist3d", model="resnet18", volumetric="3d"))
    with pytest.raises(CatalogError, match="adrenalmnist3d holds volumes"):
        Bench.open(volumes, tmp_path)


def test_corruptions_are_named_in_any_order() -> None:
    assert choose_corruptions("retinamnist", ["motion_blur", "clean", "pixelate"]) == (
        "clean",
        "pixelate",
        "motion_blur",
    )
    assert len(choose_corruptions("dermamnist", [])) == 16
    with pytest.raises(MedMNISTError, match="octmnist has no corruption 'zoom_blur': choose from pixelate, "):
        choose_corruptions("octmnist", ["zoom_blur"])
