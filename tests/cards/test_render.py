"""``medmnist_hf.cards.render``: cards state the facts, their examples run, and `datasets` loads builds by them."""

import ast
import dataclasses
import json
import re
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from bibtexparser.entrypoint import parse_string
from datasets import load_dataset
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCard

from medmnist_hf.cards import render
from medmnist_hf.cards.render import card, write_card
from medmnist_hf.catalog import NPZ_SPLITS, SPLITS, Subset, Task, collection, subset, subsets, variants
from medmnist_hf.conversion.build import build_config
from medmnist_hf.conversion.sources.source import SourceFile, open_source
from medmnist_hf.errors import BuildError
from medmnist_hf.exporting.montage import draw_sample
from medmnist_hf.features import features_of
from medmnist_hf.leaderboard.board import leaderboard
from medmnist_hf.manifest import MANIFEST_NAME, read_build
from medmnist_hf.scoring.published import published_notes, published_results
from tests.fixtures.builds import build

BUILDS = {"breastmnist": (28, 64), "chestmnist": (64, 128), "retinamnist": (28,), "adrenalmnist3d": (28, 64)}
SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TEMPLATES = sorted(Path(render.__file__).with_name("templates").glob("*.j2"))

every_subset = pytest.mark.parametrize("entry", subsets(), ids=lambda entry: entry.flag)


@pytest.fixture(scope="module")
def dist(phantoms: Callable[..., SourceFile], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    for flag, sizes in BUILDS.items():
        write_card(build(phantoms, out, flag, *sizes))
    return out


@pytest.fixture
def fresh(phantoms: Callable[..., SourceFile], tmp_path: Path) -> Path:
    """A build of two sizes without a card."""
    return build(phantoms, tmp_path, "breastmnist", 28, 64)


def section(text: str, title: str) -> str:
    return re.split(r"^## ", text, flags=re.MULTILINE)[
        1 + re.findall(r"^## (.*)$", text, flags=re.MULTILINE).index(title)
    ]


def table(text: str) -> list[list[str]]:
    """Cells of the rows of the first table."""
    lines = re.search(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)
    assert lines is not None
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[0].splitlines()[2:]]


# Static cards


@every_subset
def test_static_card_is_a_card(entry: Subset) -> None:
    text = card(entry)
    assert str(DatasetCard(text)) == text
    configs = MetadataConfigs.from_dataset_card_data(DatasetCard(text).data)
    assert list(configs) == [str(size) for size in entry.sizes]
    assert all(isinstance(name, str) for name in configs)
    assert text.endswith("\n")
    prose = re.sub(r"```bibtex\n.*?```", "", text, flags=re.DOTALL)
    assert not re.search(r"[ \t]$|\{\{|\{%|\bNone\b", prose, flags=re.MULTILINE)


@every_subset
def test_static_card_states_the_facts(entry: Subset) -> None:
    text, facts = card(entry), collection()
    assert re.findall(r"^# (.*)$", text.partition("```")[0], flags=re.MULTILINE) == [entry.python_class]
    assert "**Not for clinical use.**" in text
    assert entry.description in text
    counts = [f"{entry.counts[split]:,}" for split in SPLITS]
    assert [row[2:] for row in table(section(text, "Sizes and splits"))] == [counts for _ in entry.sizes]
    assert [row[1] for row in table(section(text, "Columns and labels"))] == list(entry.labels)
    for caveat in (*entry.caveats, *facts.caveats):
        assert f"- {caveat}\n" in section(text, "Caveats")
    shown = {tuple(row[1:4]) for row in table(section(text, "Published results"))}
    assert shown >= {(row.method, f"{row.auc:.3f}", f"{row.acc:.3f}") for row in published_results(entry.flag)}
    places = [[line.auc_rank, line.acc_rank] for line in leaderboard(entry.flag, "official").ranked]
    assert [[int(row[0]), int(row[4])] for row in table(section(text, "Published results"))] == places
    for note in published_notes(entry.flag):
        assert f"- {note}\n" in section(text, "Published results")
    files = section(text, "Provenance")
    assert facts.record in files
    for file in entry.files:
        assert f"[`{file.name}`]({file.url}) | `{file.md5}` |" in files


@every_subset
def test_license(entry: Subset) -> None:
    license = section(card(entry), "License")
    assert collection().license_urls[entry.license] in license
    assert ("**No commercial use.**" in license) == (entry.flag == "dermamnist")
    assert "Credit MedMNIST (Yang et al., Scientific Data, 2023; " in license


@every_subset
def test_citations(entry: Subset) -> None:
    block = re.search(r"```bibtex\n(.*?)```", card(entry), flags=re.DOTALL)
    assert block is not None
    library = parse_string(block[1])
    assert library.failed_blocks == []
    keys = dict.fromkeys(
        (*collection().citations, *entry.citations, *(key for each in variants(entry) for key in each.citations))
    )
    assert [each.key for each in library.entries] == list(keys)


@every_subset
def test_every_snippet_is_valid_python(entry: Subset) -> None:
    snippets = SNIPPET.findall(card(entry))
    assert len(snippets) >= 4
    for snippet in snippets:
        ast.parse(snippet)
    assert card(entry).count("```") % 2 == 0


@every_subset
def test_every_example_loads_the_repository_of_its_card(entry: Subset) -> None:
    text = card(entry, repo_id="someone/mine")
    repos = [
        name
        for code in SNIPPET.findall(text)
        for name in re.findall(r'(?:load|load_dataset|create_dataset)\("(.*?)"', code)
    ]
    assert len(repos) >= 4
    assert {name.removeprefix("hfds/") for name in repos} == {"someone/mine"}
    assert f"medmnist/{entry.flag}" not in text


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_templates_contain_no_figures(template: Path) -> None:
    text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", template.read_text(encoding="utf-8"), flags=re.DOTALL)
    # Allowed are names of types and models, an index, the one of a multi-hot vector, and settings of the examples.
    allowed = r"uint8|int64|float32|resnet18|SHA-256|MD5|2D|3D|\[0\]|= 1\.0|/ 255|batch_size=32|unsqueeze\(1\)"
    assert re.findall(r".*\d.*", re.sub(allowed, "", text)) == []
    assert len(TEMPLATES) > 1


# Cards of builds


@pytest.mark.parametrize(("flag", "size"), [(flag, size) for flag, sizes in BUILDS.items() for size in sizes])
def test_a_build_loads_as_its_card_describes(
    dist: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, flag: str, size: int
) -> None:
    manifest = next(each for each in read_build(dist / flag) if each.size == size)
    dataset = load_dataset(str(dist / flag), str(size), cache_dir=str(tmp_path))
    assert {split: len(rows) for split, rows in dataset.items()} == {
        split: record.rows for split, record in manifest.splits.items()
    }
    for rows in dataset.values():
        assert rows.features == features_of(subset(flag), size)
    stream = load_dataset(str(dist / flag), str(size), split="train", streaming=True)
    assert stream.features == features_of(subset(flag), size)
    assert not [record for record in caplog.records if "dataset card" in record.getMessage()]


@pytest.mark.parametrize(("flag", "default"), [("breastmnist", 28), ("chestmnist", 64)])
def test_the_default_config(dist: Path, tmp_path: Path, flag: str, default: int) -> None:
    rows = load_dataset(str(dist / flag), split="test", cache_dir=str(tmp_path))
    if subset(flag).ndim == 2:
        assert rows[0]["image"].size == (default, default)
    assert rows.info.config_name == str(default)


def test_a_config_that_is_not_built_is_unknown(dist: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'128' not found"):
        load_dataset(str(dist / "breastmnist"), "128", cache_dir=str(tmp_path))


def test_a_split_that_lacks_rows_is_detected(fresh: Path, tmp_path: Path) -> None:
    write_card(fresh)
    next(fresh.glob("28/train-*")).unlink()
    with pytest.raises(Exception, match="num_examples"):
        load_dataset(str(fresh), "28", cache_dir=str(tmp_path / "cache"))


def test_a_build_also_loads_with_the_static_card(fresh: Path, tmp_path: Path) -> None:
    (fresh / "README.md").write_text(card(subset("breastmnist")), encoding="utf-8")
    dataset = load_dataset(str(fresh), "28", cache_dir=str(tmp_path / "cache"))
    assert list(dataset) == list(SPLITS)
    assert dataset["train"].features == features_of(subset("breastmnist"), 28)


def run(snippet: str, repo: str, folder: Path) -> dict[str, Any]:
    """Run an example of a card with a local folder in place of the repository."""
    assert f'"{repo}"' in snippet
    local = snippet.replace(f'"{repo}"', repr(str(folder)))
    names: dict[str, Any] = {}
    exec(compile(local, "card", "exec"), names)
    return names


@pytest.mark.parametrize("flag", BUILDS)
def test_examples_run(dist: Path, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    entry, manifests = subset(flag), read_build(dist / flag)
    text = (dist / flag / "README.md").read_text(encoding="utf-8")
    examples = [code for code in SNIPPET.findall(text) if "import torch" not in code and "timm" not in code]
    assert len(examples) == 3 + (entry.ndim == 3) + (entry.task is Task.MULTI_LABEL)
    results = [run(code, f"medmnist/{flag}", dist / flag) for code in examples]
    assert results[0]["names"] == list(entry.labels)
    printed = capsys.readouterr().out.strip()
    assert (printed.startswith("[") and printed.endswith("]")) or printed in entry.labels
    assert set(results[1]["row"]) == {"image", "label"}
    assert results[-1]["train"].features == features_of(entry, manifests[-1].size)
    if entry.ndim == 3:
        volume = results[2]["volume"]
        assert (volume.dtype, volume.shape) == (np.dtype(np.uint8), (28, 28, 28))
    if entry.task is Task.MULTI_LABEL:
        record = manifests[0].splits["test"]
        assert results[2]["targets"].sum(axis=0).tolist() == list(record.label_histogram.values())
        assert (results[2]["targets"].sum(axis=1) == 0).sum() == record.unlabeled > 0


def test_a_card_states_the_figures_of_its_build(dist: Path) -> None:
    text = (dist / "chestmnist" / "README.md").read_text(encoding="utf-8")
    small, large = read_build(dist / "chestmnist")
    rows = table(section(text, "Sizes and splits"))
    assert [row[0] for row in rows] == ['`"64"`', '`"128"`']
    for row, manifest in zip(rows, (small, large), strict=True):
        assert row[2:5] == [str(record.rows) for record in manifest.splits.values()]
        assert row[5] == str(len(manifest.shards))
    labels = table(section(text, "Columns and labels"))
    assert len(labels) == 15
    for row, name in zip(labels, subset("chestmnist").labels, strict=False):
        assert row[1:] == [name, *(str(small.splits[split].label_histogram[name]) for split in SPLITS)]
    assert labels[-1][1:] == ["(none)", *(str(small.splits[split].unlabeled) for split in SPLITS)]
    for manifest in (small, large):
        assert manifest.source.md5 in section(text, "Provenance")
    for name, release in small.releases.items():
        assert f"{name} {release}" in section(text, "Provenance")


def test_banners_warn_of_synthetic_and_unverified_data(fresh: Path) -> None:
    entry, manifests = subset("breastmnist"), read_build(fresh)
    real = [
        dataclasses.replace(each, source=dataclasses.replace(each.source, kind="folder", verified=True))
        for each in manifests
    ]
    doubtful = [real[0], dataclasses.replace(real[1], source=dataclasses.replace(real[1].source, verified=False))]
    texts = [card(entry, built) for built in (manifests, real, doubtful)]
    assert ["> **SYNTHETIC: no real data.**" in text for text in texts] == [True, False, False]
    assert ["> **UNVERIFIED.**" in text for text in texts] == [False, False, True]
    assert ["changes only the file format" in text for text in texts] == [False, True, False]
    assert ["do not have the official MD5.\n" in text for text in texts] == [False, False, True]
    assert ["compared with the official one" in text for text in texts] == [False, True, False]
    assert real[1].source.file in texts[2].partition("**Not for clinical use.**")[0]
    assert real[0].source.file not in texts[2].partition("**Not for clinical use.**")[0].split()
    assert [str(DatasetCard(text)) == text for text in texts] == [True, True, True]


# Files written by write_card


def test_pictures(dist: Path) -> None:
    for flag in BUILDS:
        entry = subset(flag)
        name = "montage.gif" if entry.ndim == 3 else "montage.png"
        assert f'<img src="{name}"' in (dist / flag / "README.md").read_text(encoding="utf-8")
        with PIL.Image.open(dist / flag / name) as picture:
            assert min(picture.size) > 28
            assert picture.mode in ({"RGB"} if entry.channels == 3 else {"L", "P"})
            assert getattr(picture, "n_frames", 1) > 1 if entry.ndim == 3 else True


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_writing_a_card_is_reproducible(dist: Path, fresh: Path) -> None:
    assert write_card(fresh) == fresh / "README.md"
    first = contents(fresh)
    assert set(first) == {"README.md", "croissant.json", "eval.yaml", "montage.png"}
    write_card(fresh)
    assert contents(fresh) == first == contents(dist / "breastmnist")


def test_only_one_shard_is_read(fresh: Path) -> None:
    first = sorted(fresh.glob("28/train-*"))[0]
    for shard in fresh.glob("*/*.parquet"):
        if shard != first:
            shard.unlink()
    assert write_card(fresh).is_file()


def test_without_a_build_there_is_no_card(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"^no built config in .* to describe: run medmnist-hf build first$"):
        write_card(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_build_is_refused_in_one_line(fresh: Path) -> None:
    sorted(fresh.glob("28/train-*"))[0].write_bytes(b"cut")
    with pytest.raises(BuildError, match=r"^cannot read images from [^\n]*$"):
        write_card(fresh)
    assert contents(fresh) == {}


def test_an_invalid_manifest_is_refused_in_one_line(fresh: Path) -> None:
    (fresh / "64" / MANIFEST_NAME).write_text("{}", encoding="utf-8")
    with pytest.raises(BuildError, match=r"^[^\n]*is not a valid build manifest[^\n]*$"):
        write_card(fresh)
    assert contents(fresh) == {}


def test_a_card_that_cannot_be_written_is_reported_in_one_line(fresh: Path) -> None:
    (fresh / "README.md").mkdir()
    with pytest.raises(BuildError, match=r"^cannot write the card of [^\n]*: run again$"):
        write_card(fresh)
    assert not list(fresh.glob(".*.tmp"))


def test_a_card_shows_the_findings_of_audits(fresh: Path) -> None:
    assert "## Audit" not in write_card(fresh).read_text(encoding="utf-8")
    findings = ["2 blank rows in train", "3 pairs | of equal images"]
    (fresh / "28" / "audit.json").write_text(json.dumps({"format": 1, "findings": findings}), encoding="utf-8")
    (fresh / "64" / "audit.json").write_text(json.dumps({"findings": []}), encoding="utf-8")
    audit = section(write_card(fresh).read_text(encoding="utf-8"), "Audit")
    expected = """\
        ### Config `"28"`

        - 2 blank rows in train
        - 3 pairs \\| of equal images

        ### Config `"64"`

        Nothing to report.
        """
    assert textwrap.dedent(expected).strip() in audit


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"findings": "text"}', '{"findings": [1]}', '"findings"'])
def test_an_invalid_audit_is_refused_in_one_line(fresh: Path, content: str) -> None:
    (fresh / "28" / "audit.json").write_text(content, encoding="utf-8")
    with pytest.raises(
        BuildError,
        match=r"^[^\n]*audit\.json is not a valid audit \(.*\): run medmnist-hf audit --save again, or remove it$",
    ):
        write_card(fresh)
    assert contents(fresh) == {}


# Real files


@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist", "adrenalmnist3d"])
def test_a_card_of_real_data(real_data: Path, tmp_path: Path, flag: str) -> None:
    entry = subset(flag)
    file = open_source(str(real_data)).fetch(entry, 28)
    build_config(entry, 28, file, tmp_path)
    text = write_card(tmp_path / flag).read_text(encoding="utf-8")
    assert "SYNTHETIC" not in text
    assert "UNVERIFIED" not in text
    assert entry.file(28).md5 in section(text, "Provenance")
    with np.load(file.path, allow_pickle=False) as arrays:
        counts = [np.bincount(arrays[f"{NPZ_SPLITS[split]}_labels"][:, 0]).tolist() for split in SPLITS]
    printed = [[int(cell.replace(",", "")) for cell in row[2:]] for row in table(section(text, "Columns and labels"))]
    assert printed == np.transpose(counts).tolist()
    assert table(section(text, "Sizes and splits"))[0][2:5] == [f"{entry.counts[split]:,}" for split in SPLITS]


def test_a_synthetic_size_next_to_a_real_one_is_named(phantoms: Callable[..., SourceFile], tmp_path: Path) -> None:
    build(phantoms, tmp_path, "breastmnist", 28, 64)
    small, large = read_build(tmp_path / "breastmnist")
    real = dataclasses.replace(small, source=dataclasses.replace(small.source, kind="folder", verified=True))
    text = card(subset("breastmnist"), [real, large])
    assert "SYNTHETIC in part" in text
    assert 'of the configs "64" were generated' in text
    assert 'Configs whose origin is "phantom generator"' in text
    assert "SYNTHETIC: no real data" not in text
    assert "UNVERIFIED" not in text
    assert "- synthetic\n" in text
    assert "Credit MedMNIST" in text


def test_the_last_writer_sees_every_size(
    phantoms: Callable[..., SourceFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second process that finishes a size while the first draws its picture waits, and is not overwritten."""
    folder = build(phantoms, tmp_path, "breastmnist", 28)
    drawing = threading.Event()

    def slow(*arguments: Any) -> Any:
        drawing.set()
        time.sleep(0.3)
        return draw_sample(*arguments)

    monkeypatch.setattr("medmnist_hf.cards.render.draw_sample", slow)
    first = threading.Thread(target=write_card, args=(folder,))
    first.start()
    drawing.wait()
    build(phantoms, tmp_path, "breastmnist", 64)
    write_card(folder)
    first.join()
    assert "config_name: '64'" in (folder / "README.md").read_text()


def test_a_card_says_that_no_results_are_published(unpublished: str) -> None:
    text = section(card(subset(unpublished)), "Published results")
    assert text.split("\n\n")[1] == "None are known." and "|" not in text and "eval.yaml" in text
