"""``scripts/bench/sweep_models.py``: every family of networks works, or is refused as the docs say."""

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
    with_table,
    write_outcomes,
)
from tests.fixtures.paths import ROOT

PAGE = ROOT / "docs" / "training" / "networks.md"
SHIPPED = {one.name: one for one in read_outcomes(PAGE.with_suffix(".jsonl"))}
SCRIPT = ROOT / "scripts" / "bench" / "sweep_models.py"


def test_every_family_is_in_it_and_in_the_docs_without_a_fault() -> None:
    modules = {timm.model_entrypoint(name).__module__.rpartition(".")[2] for name in timm_networks()}
    assert modules == {timm.model_entrypoint(name).__module__.rpartition(".")[2] for name in timm.list_models()}
    assert list(SHIPPED) == members()
    assert not any(one.faults for one in SHIPPED.values())


def test_every_network_is_in_it_with_gray_and_rgb_images_of_every_size() -> None:
    assert len(cells()) == 8
    for one in SHIPPED.values():
        assert sorted([*one.works, *(what for what in one.refused if what in cells())]) == sorted(cells()), one.name
        assert list(one.gray) == [cell for cell in one.works if cell.startswith("gray")], one.name
        assert all(method or f"{cell} maps" in one.refused for cell, method in one.works.items()), one.name


def test_the_table_is_that_of_the_outcomes() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert with_table(text, list(SHIPPED.values())) == text, f"stale: run {SCRIPT.relative_to(ROOT)}, see --help"
    with pytest.raises(ValueError, match=f"no lines {BEGIN.strip()!r}"):
        with_table("# Networks", [])


@pytest.mark.parametrize(
    ("name", "size"), [("timm/test_resnet", 28), ("timm/test_nfnet", 28), ("timm/test_vit", 64), ("resnet", 28)]
)
def test_a_small_network_is_as_the_docs_say(name: str, size: int) -> None:
    assert asdict(sweep(name, [size])) == asdict(of_sizes(SHIPPED[name], [size]))


def of_sizes(outcome: Outcome, sizes: Sequence[int]) -> Outcome:
    """What a sweep of these sizes alone would give, the smallest among them."""
    others = [cell for cell in cells() if cell not in cells(sizes)]
    works, gray, refused = (
        {what: value for what, value in part.items() if not any(f"{what} ".startswith(f"{one} ") for one in others)}
        for part in (outcome.works, outcome.gray, outcome.refused)
    )
    return Outcome(outcome.name, works, gray, refused)


def test_the_table_tells_sizes_and_reasons() -> None:
    refused = {cell: f"timm/test_vit sees {cell.split()[1]} | of it" for cell in cells([28, 64])}
    refused |= {"gray 128": "no gray", "RGB 224 LoRA": "none", "volumes": "no volumes"}
    works = dict.fromkeys(("RGB 128", "RGB 224", "gray 224"), "occlusion")
    one = Outcome("timm/test_vit", works, {"gray 224": "spread"}, refused)
    reasons = r"28, 64: `sees N \| of it`<br>gray 128: `no gray`<br>LoRA RGB 224: `none`<br>volumes: `no volumes`"
    row = "| vision_transformer | `timm/test_vit` | 128, 224 | 224 | occlusion | spread | "
    assert table([one]).splitlines()[-1] == f"{row}{reasons} |"
    one.works["gray 224"], one.refused = "Grad-CAM", {f"{cell} LoRA": "none" for cell in works}
    maps = "occlusion: RGB 128, 224; Grad-CAM: gray 224"
    assert table([one]).splitlines()[-1].endswith(f" | {maps} | spread | LoRA: `none` |")


def test_what_fails_or_hangs_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    from medmnist_hf.training.models import factory

    def fail(recipe: Any) -> None:
        raise LookupError("such a thing")

    def spin(recipe: Any) -> None:
        while True:
            pass

    monkeypatch.setattr(factory, "build_model", fail)
    assert sweep("timm/test_resnet", [28]).faults == [
        "RGB 28: LookupError: such a thing",
        "gray 28: LookupError: such a thing",
    ]
    monkeypatch.setattr(factory, "build_model", spin)
    assert sweep("timm/test_resnet", [28], seconds=0.5).faults == ["took more than 0.5 seconds of processor time"]


def test_outcomes_are_kept_and_not_done_again(tmp_path: Any) -> None:
    results = tmp_path / "outcomes.jsonl"
    command = [sys.executable, str(SCRIPT), "--only", "^timm/test_resnet$", "--results", str(results)]
    write_outcomes([Outcome("timm/test_resnet", faults=["RGB 28: LookupError"])], results)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, *rest = done.stdout.splitlines()
    assert first.startswith("1 of 1 networks, 1 faults, ") and rest == ["timm/test_resnet: RGB 28: LookupError"]


SAMPLE = ("timm/cait_xxs24_224", "timm/csatv2", "timm/ghostnet_050", "timm/xcit_nano_12_p8_224", "levit", "vit_mae")
"""Networks that are tried whenever the slow tests run: tokens, a refusal of gray, maps, two heads, a backbone."""

PARTS = 14
"""Days in which the others have had their turn: the whole takes more than the rest of the slow tests."""


@pytest.mark.slow
def test_families_work_or_are_refused_as_the_docs_say() -> None:
    today = date.today().toordinal() % PARTS
    names = sorted({*SAMPLE, *members()[today::PARTS]})
    outcomes = {one.name: asdict(one) for one in run(names, workers=2)}
    assert outcomes == {name: asdict(SHIPPED[name]) for name in names}, f"part {today} of {PARTS}"
