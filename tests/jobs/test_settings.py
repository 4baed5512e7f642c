"""Settings of an engine: what a file changes, and a line for each mistake."""

from pathlib import Path

import pytest

from medmnist_hf.errors import JobError
from medmnist_hf.jobs.settings import HfJobsSettings, RaySettings, Settings, SlurmSettings, read_settings

EXAMPLE = """
workers: 8
cpus_per_task: 4
memory_gb: 16
gpus_per_task: 0.25
time: "1-04:00:00"
slurm: {partition: gpu, account: lab, setup: module load cuda, options: {exclude: n7}}
ray: {address: "10.0.0.1:6379"}
hf-jobs: {flavor: l4x1, bucket: you/medmnist}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "engine.yaml"


def test_without_a_file_there_are_defaults() -> None:
    assert read_settings(None) == Settings()
    assert read_settings(None, workers=3, gpus_per_task=None) == Settings(workers=3)


def test_a_file_holds_what_differs(file: Path) -> None:
    file.write_text(EXAMPLE)
    settings = read_settings(file)
    assert settings == Settings(
        workers=8,
        cpus_per_task=4,
        memory_gb=16,
        gpus_per_task=0.25,
        time="1-04:00:00",
        slurm=SlurmSettings("gpu", "lab", setup=("module load cuda",), options={"exclude": "n7"}),
        ray=RaySettings("10.0.0.1:6379"),
        hf_jobs=HfJobsSettings("l4x1", "you/medmnist"),
    )
    assert settings.tasks_per_gpu == 4


def test_the_command_line_overrides_the_file(file: Path) -> None:
    file.write_text("workers: 8\ngpus_per_task: 2\n")
    assert read_settings(file, workers=2, gpus_per_task=None) == Settings(workers=2, gpus_per_task=2)


def test_a_setup_has_one_or_more_lines(file: Path) -> None:
    file.write_text("slurm:\n  setup: |\n    module load cuda\n    source env\n")
    assert read_settings(file).slurm.setup == ("module load cuda", "source env")
    file.write_text("slurm: {setup: [module load cuda]}")
    assert read_settings(file).slurm.setup == ("module load cuda",)


def test_an_empty_file_is_one_of_defaults(file: Path) -> None:
    file.write_text("# nothing\n")
    assert read_settings(file) == Settings()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("worker: 8", "it has an unknown attribute 'worker': did you mean workers?"),
        ("slurm: {partitoin: gpu}", "slurm has an unknown attribute 'partitoin': did you mean partition?"),
        ("hf_jobs: {flavor: l4x1}", "it has an unknown attribute 'hf_jobs': did you mean hf-jobs?"),
        ("ray: {port: 1}", "ray has an unknown attribute 'port': choose from address"),
        ("workers: many", "workers is 'many', must be an integer"),
        ("workers: 0", "workers is 0, must be an integer from 1 to 10000"),
        ("workers: true", "workers is True, must be an integer"),
        ("slurm: gpu", "slurm is 'gpu', must be keys and values"),
        ("slurm:", "slurm is None, must be keys and values"),
        ("slurm: {options: {nice: 5}}", "slurm.options.nice is 5, must be text, in quotes"),
        ('slurm: {setup: "a\\a"}', "slurm.setup[0] holds control characters"),
        ("slurm: {setup: 5}", "slurm.setup is 5, must be a list"),
        ("memory_gb: 0", "memory_gb is 0, must be a number from 0.01 to 100000"),
        ("memory_gb: .inf", "memory_gb is inf, must be finite"),
        ("time: 4h", "time is '4h', must be hours:minutes:seconds in quotes, such as '04:00:00'"),
        ("time: '04:00'", "time is '04:00', must be hours:minutes:seconds in quotes"),
        ("time: 14:00:00", "time is 50400, must be text, in quotes"),
        ("gpus_per_task: 1.5", "gpus_per_task is 1.5: must be a whole number, or one divided by one"),
        ("gpus_per_task: 0.3", "gpus_per_task is 0.3: must be a whole number, or one divided by one"),
        ("gpus_per_task: null", "gpus_per_task is nan: must be a whole number, or one divided by one"),
        ("gpus_per_task: -1", "gpus_per_task is -1, must be a number from 0 to 1024"),
        ("hf-jobs: {bucket: medmnist}", "hf-jobs.bucket is 'medmnist', must be a bucket such as you/medmnist"),
        ("hf-jobs: {mount: data}", "hf-jobs.mount is 'data', must be an absolute path"),
        ("- workers", "is ['workers'], must be keys and values: give a YAML file with --engine-config"),
        ("1: 2", "it has an unknown attribute 1"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file(file: Path, content: str, message: str) -> None:
    file.write_text(content)
    with pytest.raises(JobError) as error:
        read_settings(file)
    text = str(error.value)
    assert text.startswith(str(file)) and message in text and "\n" not in text


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file"), ("a: [", "line 1, column 5"), ("a: !!python/name:os", "tag")]
)
def test_a_file_that_cannot_be_read(file: Path, content: str | None, reason: str) -> None:
    if content is not None:
        file.write_text(content)
    with pytest.raises(JobError, match=f"cannot read {file} .*{reason}.*: give a YAML file with --engine-config"):
        read_settings(file)


def test_a_mistake_on_the_command_line_names_the_setting() -> None:
    with pytest.raises(JobError, match=r"^gpus_per_task is 0\.7: must be a whole number"):
        read_settings(None, gpus_per_task=0.7)


@pytest.mark.parametrize(("gpus", "tasks"), [(0, 1), (1, 1), (4, 1), (0.5, 2), (0.33, 3), (0.334, 3), (0.1, 10)])
def test_tasks_that_share_a_gpu(gpus: float, tasks: int) -> None:
    assert Settings(gpus_per_task=gpus).tasks_per_gpu == tasks
