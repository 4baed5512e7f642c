"""``scripts/bench/sweep_models.py``: every family of networks works, or is refused as documented."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

import pytest
import timm

from scripts.bench.sweep_models import (
    BEGIN,
    Outcome,
    cells,
    members,
    read_outcomes,
    run,
    sweep,
    table,
    timm_networks,
    update_table,
    write_outcomes,
)
from tests.fixtures.paths import ROOT

PAGE = ROOT / "docs" / "training" / "networks.md"
DOCUMENTED = {outcome.name: outcome for outcome in read_outcomes(PAGE.with_suffix(".jsonl"))}
SCRIPT = ROOT / "scripts" / "bench" / "sweep_models.py"


def test_every_family_is_documented_without_a_fault() -> None:
    modules = {timm.model_entrypoint(name).__module__.rpartition(".")[2] for name in timm_networks()}
    assert modules == {timm.model_entrypoint(name).__module__.rpartition(".")[2] for name in timm.list_models()}
    assert list(DOCUMENTED) == members()
    assert not any(outcome.faults for outcome in DOCUMENTED.values())


def test_every_network_is_documented_for_gray_and_rgb_images_of_every_size() -> None:
    assert len(cells()) == 8
    for name, outcome in DOCUMENTED.items():
        assert sorted([*outcome.works, *(step for step in outcome.refused if step in cells())]) == sorted(cells()), (
            name
        )
        assert list(outcome.gray) == [cell for cell in outcome.works if cell.startswith("gray")], name
        assert all(method or f"{cell} maps" in outcome.refused for cell, method in outcome.works.items()), name


def test_the_table_shows_the_outcomes() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert update_table(text, list(DOCUMENTED.values())) == text, f"stale: run {SCRIPT.relative_to(ROOT)}, see --help"
    with pytest.raises(ValueError, match=f"no lines {BEGIN.strip()!r}"):
        update_table("# Networks", [])


@pytest.mark.parametrize(
    ("name", "size"), [("timm/test_resnet", 28), ("timm/test_nfnet", 28), ("timm/test_vit", 64), ("resnet", 28)]
)
def test_a_small_network_behaves_as_documented(name: str, size: int) -> None:
    assert asdict(sweep(name, [size])) == asdict(select_sizes(DOCUMENTED[name], [size]))


def select_sizes(outcome: Outcome, sizes: Sequence[int]) -> Outcome:
    """The outcome of a sweep of only these sizes, which include the smallest."""
    others = [cell for cell in cells() if cell not in cells(sizes)]
    works, gray, refused = (
        {step: value for step, value in part.items() if not any(f"{step} ".startswith(f"{cell} ") for cell in others)}
        for part in (outcome.works, outcome.gray, outcome.refused)
    )
    return Outcome(outcome.name, works, gray, refused)


def test_the_table_shows_sizes_and_reasons() -> None:
    refused = {cell: f"timm/test_vit sees {cell.split()[1]} | of it" for cell in cells([28, 64])}
    refused |= {"gray 128": "no gray", "RGB 224 LoRA": "none", "volumes": "no volumes"}
    works = dict.fromkeys(("RGB 128", "RGB 224", "gray 224"), "occlusion")
    outcome = Outcome("timm/test_vit", works, {"gray 224": "spread"}, refused)
    reasons = r"28, 64: `sees N \| of it`<br>gray 128: `no gray`<br>LoRA RGB 224: `none`<br>volumes: `no volumes`"
    row = "| vision_transformer | `timm/test_vit` | 128, 224 | 224 | occlusion | spread | "
    assert table([outcome]).splitlines()[-1] == f"{row}{reasons} |"
    outcome.works["gray 224"], outcome.refused = "Grad-CAM", {f"{cell} LoRA": "none" for cell in works}
    maps = "occlusion: RGB 128, 224; Grad-CAM: gray 224"
    assert table([outcome]).splitlines()[-1].endswith(f" | {maps} | spread | LoRA: `none` |")


def test_errors_and_timeouts_are_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    from medmnist_hf.training.models import factory

    def fail(recipe: Any) -> None:
        raise LookupError("no such key")

    def spin(recipe: Any) -> None:
        while True:
            pass

    monkeypatch.setattr(factory, "build_model", fail)
    assert sweep("timm/test_resnet", [28]).faults == [
        "RGB 28: LookupError: no such key",
        "gray 28: LookupError: no such key",
    ]
    monkeypatch.setattr(factory, "build_model", spin)
    assert sweep("timm/test_resnet", [28], seconds=0.5).faults == ["took more than 0.5 seconds of processor time"]


@pytest.mark.slow
def test_existing_outcomes_are_kept_and_not_repeated(tmp_path: Any) -> None:
    results = tmp_path / "outcomes.jsonl"
    command = [sys.executable, str(SCRIPT), "--only", "^timm/test_resnet$", "--results", str(results)]
    write_outcomes([Outcome("timm/test_resnet", faults=["RGB 28: LookupError"])], results)
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    first, *rest = process.stdout.splitlines()
    assert first.startswith("1 of 1 networks, 1 faults, ") and rest == ["timm/test_resnet: RGB 28: LookupError"]


SAMPLE = ("timm/cait_xxs24_224", "timm/csatv2", "timm/ghostnet_050", "timm/xcit_nano_12_p8_224", "levit", "vit_mae")
"""Networks tried in every run of the slow tests: tokens, a refusal of gray, maps, two heads, a backbone."""

PARTS = 14
"""Days over which the others are distributed, since all of them take longer than the other slow tests together."""


@pytest.mark.slow
def test_families_work_or_are_refused_as_documented() -> None:
    today = date.today().toordinal() % PARTS
    names = sorted({*SAMPLE, *members()[today::PARTS]})
    outcomes = {outcome.name: asdict(outcome) for outcome in run(names, workers=2)}
    assert outcomes == {name: asdict(DOCUMENTED[name]) for name in names}, f"part {today} of {PARTS}"
