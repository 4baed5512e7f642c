"""Read a matrix: its cells, their names, and one-line errors that name the cell."""

import re
from pathlib import Path

import pytest

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.benchmark.matrix import EXAMPLE_FILE, read_matrix, replace_options
from medmnist_hf.training.recipe import Recipe, make_recipe
from medmnist_hf.training.run_folder import run_name
from tests.fixtures.yaml_bomb import BOMB


def recipes(folder: Path, text: str) -> list[Recipe]:
    path = folder / "matrix.yaml"
    path.write_text(text, encoding="utf-8")
    return [cell.recipe for cell in read_matrix(path)]


def test_every_combination_is_a_cell_with_all_seeds_and_defaults(tmp_path: Path) -> None:
    cells = recipes(
        tmp_path,
        """
        defaults: {neighbors: 3, seeds: [4, 5]}
        matrix:
          dataset: [breastmnist, RetinaMNIST]
          size: [28, 64]
          method: knn
        """,
    )
    assert [(recipe.dataset, recipe.size) for recipe in cells] == [
        ("breastmnist", 28),
        ("breastmnist", 64),
        ("retinamnist", 28),
        ("retinamnist", 64),
    ]
    assert all((recipe.neighbors, recipe.seeds, recipe.method) == (3, (4, 5), "knn") for recipe in cells)


def test_cells_and_defaults_override_a_preset(tmp_path: Path) -> None:
    text = "defaults: {preset: medmnist_v2, epochs: 3}\nmatrix: {dataset: breastmnist, model: [resnet18, resnet50]}"
    cells = recipes(tmp_path, text)
    assert cells == [
        make_recipe({"dataset": "breastmnist", "model": name, "epochs": 3}, preset="medmnist_v2")
        for name in ("resnet18", "resnet50")
    ]


def test_exclude_leaves_combinations_out_and_include_adds_some(tmp_path: Path) -> None:
    cells = recipes(
        tmp_path,
        """
        defaults: {epochs: 3}
        matrix:
          dataset: [breastmnist, retinamnist]
          method: [finetune, knn, lora]
        exclude:
          - {dataset: BreastMNIST, method: [knn, lora]}
          - method: lora
        include:
          - {dataset: pathmnist, neighbors: [5, 7], method: knn}
        """,
    )
    assert [(recipe.dataset, recipe.method, recipe.neighbors) for recipe in cells] == [
        ("breastmnist", "finetune", 11),
        ("retinamnist", "finetune", 11),
        ("retinamnist", "knn", 11),
        ("pathmnist", "knn", 5),
        ("pathmnist", "knn", 7),
    ]
    assert [recipe.epochs for recipe in cells] == [3, 3, 100, 100, 100], "knn has no epochs"


def test_names_are_readable_and_depend_on_all_options_but_seeds() -> None:
    def name(**options: object) -> str:
        return run_name(make_recipe({"dataset": "breastmnist", **options}))

    assert re.fullmatch(r"breastmnist-28-resnet18-finetune-[0-9a-f]{8}", name())
    assert name() == name(seeds=[1, 2, 3]) == name(epochs=100)
    variants = [name(), name(epochs=7), name(size=64), name(method="knn"), name(test=False), name(root="dist")]
    assert len(set(variants)) == len(variants)
    assert name(model="timm/a").startswith("breastmnist-28-timm-a-finetune-")
    assert "/" not in name(model="../../etc/passwd")
    assert len(name(model="m" * 500)) < 120


def test_the_example_is_a_valid_matrix() -> None:
    cells = read_matrix(EXAMPLE_FILE)
    assert len({cell.name for cell in cells}) == len(cells) == 11
    assert {cell.recipe.dataset for cell in cells} == {"breastmnist", "retinamnist", "adrenalmnist3d"}
    assert {cell.recipe.method for cell in cells} == {"finetune", "linear-probe", "knn"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "has none of the parts of a matrix: defaults, matrix, exclude, include"),
        ("", "none of the parts of a matrix"),
        ("matrix: {dataset: breastmnist}\nmatrx: 1", "unknown entry matrx: did you mean matrix"),
        ("x: 1\nmatrix: {dataset: breastmnist}", "unknown entry x: the parts are defaults, matrix, exclude, include"),
        (
            "data: [breastmnist]\nmodels: [resnet18]",
            "unknown entries data, models: write dataset below matrix or defaults; write model below .*",
        ),
        ("datasets: [breastmnist]", "unknown entry datasets: write dataset below matrix or defaults$"),
        ("matrix: {dataset: breastmnist}\nlr: 0.1", "unknown entry lr: write learning_rate below matrix or defaults$"),
        (
            "matrix: {dataset: breastmnist}\npresets: [x]",
            "unknown entry presets: write preset below matrix or defaults$",
        ),
        ("matrix: {datasets: [breastmnist]}", "cell datasets breastmnist: no data set: add it below matrix"),
        ("a: [", "is not a valid YAML file"),
        ("defaults: {epochs: 1}", "has no cells: add matrix or include"),
        ("matrix: breastmnist", "matrix has no options: write NAME: VALUE"),
        ("matrix: {dataset: []}", "matrix: dataset is an empty list"),
        ("matrix: {dataset: breastmnist}\ninclude: {dataset: a}", "include is not a list"),
        ("matrix: {dataset: breastmnist}\ninclude: [3]", "include 1 has no options"),
        (
            "matrix: {dataset: breastmnist}\nexclude: [{dataset: pathmnist}]",
            r"exclude 1 \(dataset pathmnist\) matches",
        ),
        ("matrix: {dataset: breastmnist}\nexclude: [{sizes: 28}]", "exclude 1 uses sizes"),
        ("matrix: {dataset: [breastmnist, retina]}", "cell dataset retina: .*retina"),
        ("matrix: {dataset: organmnist3d, size: [28, 64, 128]}", "cell dataset organmnist3d, size 128: .*128"),
        ("matrix: {dataset: breastmnist, epoch: 3}", "cell dataset breastmnist, epoch 3: .*did you mean epochs"),
        ("matrix: {dataset: breastmnist, preset: [other]}", "cell .*preset other: unknown preset"),
        ("matrix: {dataset: breastmnist, preset: 3}", "preset is 3: give the name of a preset"),
        ("matrix: {dataset: breastmnist, epochs: [1, 0]}", "cell dataset breastmnist, epochs 0: epochs is 0"),
        ("matrix: {dataset: breastmnist, seeds: 3}", "seeds is 3: give a list"),
        ("matrix: {dataset: breastmnist, size: [28, 28]}", "the same configuration as another cell"),
        ("matrix: {epochs: 3}", "cell epochs 3: no data set: add it below matrix or defaults, e.g. dataset: "),
        (
            "matrix: {dataset: breastmnist, method: [knn, linear-probe], epochs: 3}",
            r"matrix: epochs would change nothing in any cell .method \S+ does not read it.: remove it there",
        ),
        (
            "defaults: {mixup: 0.8}\nmatrix: {dataset: breastmnist, method: knn}",
            "defaults: mixup would change nothing",
        ),
        (
            "defaults: {dataset: breastmnist}\nmatrix: {mixup: 0.8}\ninclude: [{method: knn, mixup: 0.2}]",
            "include 1: mixup would change nothing in any cell",
        ),
        (
            "matrix: {dataset: breastmnist, method: [finetune, knn], epochs: [3, 5]}",
            "cell .*method knn, epochs 5: the same configuration as another cell .epochs: method knn does not",
        ),
        (f"matrix: {{{', '.join(f'{name}: {[*range(40)]}' for name in 'abcde')}}}", "makes 102,400,000 cells"),
        (
            f"matrix: {{a: {[*range(100)]}, b: {[*range(99)]}}}\ninclude: [{{c: {[*range(101)]}}}]",
            "include 1 makes 101 cells, .* at most 10,000",
        ),
        ("matrix: {dataset: [[breastmnist]]}", "dataset has nested lists"),
        (BOMB + "matrix: {dataset: *a19}", "is not a valid YAML file of options .*more than 50,000 values"),
        ("matrix: {dataset: 2020-13-45}", "is not a valid YAML file of options"),
        ("[" * 9_000, "nested deeper"),
        ("matrix: {dataset: 0x" + "f" * 9_000 + "}", "is too large"),
        ("defaults: &d {model: *d}", "comes before the end of the value"),
    ],
)
def test_every_mistake_gives_a_one_line_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message) as caught:
        recipes(tmp_path, text)
    assert "\n" not in str(caught.value) and "matrix.yaml" in str(caught.value)


def test_a_file_that_cannot_be_read_gives_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"none\.yaml \(No such file or directory\): give the YAML file"):
        read_matrix(tmp_path / "none.yaml")
    (tmp_path / "matrix.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TrainingError, match="not a text file"):
        read_matrix(tmp_path / "matrix.yaml")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("a reads 1 channels: give --channels 1", "a reads 1 channels: give channels: 1"),
        ("give --channels 3 --image-size 64", "give channels: 3 and image_size: 64"),
        ("check it, or give --checkpoint or --no-pretrained", "check it, or give checkpoint or pretrained: false"),
        ("run it again without --no-test", "run it again without test: false"),
        ("give --lr 0.1 (or --early-stopping 3)", "give learning_rate: 0.1 (or early_stopping: 3)"),
        ("give --model resnet18 --checkpoint a/b.pt", "give model: resnet18 and checkpoint: a/b.pt"),
        ("name another folder with --out", "name another folder with --out"),
        (
            "no build: run medmnist-hf build pathmnist --size 28 --root dist, or give --size 64",
            "no build: run medmnist-hf build pathmnist --size 28 --root dist, or give size: 64",
        ),
    ],
)
def test_options_in_messages_are_replaced_by_keys_of_a_matrix(message: str, expected: str) -> None:
    assert replace_options(message) == expected


@pytest.mark.parametrize("path", ["x --lr 4.pt", "--no-pretrained", "a or --image-size 3/b, --epochs 3"])
def test_a_path_that_looks_like_an_option_is_kept(path: str) -> None:
    values = ["resnet18", path, 3, None]
    assert replace_options(f"cannot read {path} (no such file): give --lr 3", values) == (
        f"cannot read {path} (no such file): give learning_rate: 3"
    )
    assert (
        replace_options(f"give --checkpoint {path} --lr 3", values) == f"give checkpoint: {path} and learning_rate: 3"
    )
    assert replace_options("there is no --no-lr 3") == "there is no --no-lr 3"
