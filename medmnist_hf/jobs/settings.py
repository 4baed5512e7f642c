"""Read how many tasks run at a time, what each of them needs, and where the engine is, from a YAML file.

Every key has a default, so a file holds only what differs:

    workers: 8            # tasks at a time
    cpus_per_task: 4
    memory_gb: 16         # of a task
    gpus_per_task: 0.25   # four tasks share a GPU; a whole number above 1 starts `accelerate launch`
    tasks_per_job: 1      # tasks that a job of Slurm, Ray or Hugging Face runs, one after the other
    time: "04:00:00"      # limit of a job; a task that is cut short resumes
    slurm: {partition: gpu, account: lab, setup: module load cuda}
    ray: {address: auto}
    hf-jobs: {flavor: l4x1, bucket: you/medmnist}
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from medmnist_hf.documents import YAML_BYTES, parse_yaml
from medmnist_hf.errors import JobError, cannot_read, shorten
from medmnist_hf.files import read_document
from medmnist_hf.typed_json import IN_FILE, Bounds, Name, Pattern, decode, encode

_NO_FILE: Final = "give a YAML file with --engine-config"

Workers = Annotated[int, Bounds(1, 10_000)]
Duration = Annotated[str, Pattern(r"(\d+-)?\d{1,3}(:\d{2}){2}", "hours:minutes:seconds in quotes, such as '04:00:00'")]


@dataclass(frozen=True, slots=True)
class SlurmSettings:
    """Settings of Slurm.

    Attributes:
        partition: Partition of the jobs; None for the default of the cluster.
        account: Account that is charged; None for the default.
        qos: Quality of service; None for the default.
        setup: Shell commands at the start of each job, such as ``module load cuda``; in a file a text of one or more
            lines, or a list.
        options: Further options of sbatch, with or without dashes.
    """

    partition: Name | None = None
    account: Name | None = None
    qos: Name | None = None
    setup: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RaySettings:
    """Settings of Ray.

    Attributes:
        address: Address of the cluster; ``auto`` finds the one that this machine belongs to.
    """

    address: Name = "auto"


@dataclass(frozen=True, slots=True)
class HfJobsSettings:
    """Settings of Hugging Face Jobs.

    Attributes:
        flavor: Hardware of a job, see ``hf jobs hardware``.
        bucket: Bucket that is mounted in every job, as ``user/name``; builds and runs are written to it.
        mount: Folder at which it is mounted.
        namespace: User or organization that is charged; None for the owner of the token.
        image: Docker image with uv; None for the default of huggingface_hub.
        package: What is installed in a job, as pip takes it.
        env: Environment variables of a job; not for secrets.
    """

    flavor: Name = "cpu-basic"
    bucket: Annotated[str, Pattern(r"[\w.-]+/[\w.-]+", "a bucket such as you/medmnist")] | None = None
    mount: Annotated[str, Pattern("/.+", "an absolute path")] = "/data"
    namespace: Name | None = None
    image: Name | None = None
    package: Name = "medmnist-hf[train]"
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """How tasks run.

    Attributes:
        workers: Tasks, or jobs of several tasks, at a time; None for the default of the engine.
        cpus_per_task: Cores of a task; None for a share of this machine, or one core of a cluster.
        memory_gb: Memory of a task in GB; None for the default of the engine.
        gpus_per_task: GPUs of a task: 0, a fraction, so that several tasks share one, or a whole number.
        tasks_per_job: Tasks that one job runs, one after the other.
        time: Time limit of a job; None for the default of the engine.
        slurm: Settings of Slurm.
        ray: Settings of Ray.
        hf_jobs: Settings of Hugging Face Jobs.
    """

    workers: Workers | None = None
    cpus_per_task: Workers | None = None
    memory_gb: Annotated[float, Bounds(0.01, 100_000)] | None = None
    gpus_per_task: Annotated[float, Bounds(0, 1024)] = 0.0
    tasks_per_job: Workers = 1
    time: Duration | None = None
    slurm: SlurmSettings = SlurmSettings()
    ray: RaySettings = RaySettings()
    hf_jobs: HfJobsSettings = field(default=HfJobsSettings(), metadata={IN_FILE: "hf-jobs"})

    def __post_init__(self) -> None:
        gpus = self.gpus_per_task
        if not math.isfinite(gpus) or (gpus != int(gpus) and (gpus > 1 or abs(gpus * round(1 / gpus) - 1) > 0.02)):
            raise JobError(
                f"gpus_per_task is {gpus:g}: must be a whole number, or one divided by one, such as 0.5 or 0.25"
            )

    @property
    def tasks_per_gpu(self) -> int:
        """Number of tasks that share a GPU; 1 if they do not."""
        return round(1 / self.gpus_per_task) if 0 < self.gpus_per_task < 1 else 1


def read_settings(path: Path | None, **given: Any) -> Settings:
    """Read settings from a YAML file.

    Args:
        path: The file; None for the defaults.
        **given: Settings that replace those of the file, unless they are None.

    Raises:
        JobError: The file cannot be read, has an unknown key or a value that is not valid.
    """
    table: Any = {}
    if path is not None:
        try:
            table = parse_yaml(read_document(path, YAML_BYTES).decode()) or {}
        except (OSError, ValueError) as error:
            raise JobError(cannot_read(path, error, _NO_FILE)) from None
        if not isinstance(table, dict):
            raise JobError(f"{path} is {shorten(table)}, must be keys and values: {_NO_FILE}")
    try:
        merged = _merge(encode(Settings()), table)
        settings: Settings = decode(
            merged | {name: value for name, value in given.items() if value is not None}, Settings
        )
    except ValueError as error:
        hint = ", in quotes" if str(error).endswith("must be text") else ""
        text = str(error).replace("must be an object", "must be keys and values")
        raise JobError(f"{path or 'the settings of the engine'}: {text}{hint}") from None
    except JobError as error:
        raise JobError(f"{path}: {error}" if path else error) from None
    return settings


def _merge(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a file over defaults, section by section; unknown keys are kept, to be refused by their name.

    Where a list is expected, a text is its lines.
    """
    merged = dict(defaults)
    for name, value in given.items():
        section = merged.get(name)
        if isinstance(section, dict) and isinstance(value, dict):
            merged[name] = _merge(section, value)
        else:
            merged[name] = value.splitlines() if isinstance(section, list) and isinstance(value, str) else value
    return merged
