"""What every engine offers: check that it can be used, start tasks, say whether some still run, and stop them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from medmnist_hf.jobs.settings import Settings
from medmnist_hf.jobs.tasks import Task, TaskFolder

PAUSE = 0.2
"""Seconds between two looks at the state of tasks, by default."""


class Engine(ABC):
    """Runs tasks; one instance runs one list.

    Attributes:
        name: Its name on the command line.
        pause: Seconds between two calls of `is_active`.
        detaches: Its tasks continue when the process that started them has ended.
        sees_results: This machine sees what tasks write; otherwise only the marks say what is done, and only logs of
            failed tasks and files of `Task.result` are fetched.
        settings: How tasks run.
    """

    name: str
    pause: float = PAUSE
    detaches: bool = False
    sees_results: bool = True

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def place(self, path: Path) -> Path:
        """Where this machine keeps a folder of tasks that the engine's machines see at a path."""
        return path

    @abstractmethod
    def check(self) -> None:
        """Check that the engine can be used.

        Raises:
            JobError: It cannot, with what to do.
        """

    @abstractmethod
    def resources(self, tasks: int, folder: TaskFolder) -> list[str]:
        """Describe in a few lines where and with what a number of tasks of a folder would run."""

    def still_running(self, folder: TaskFolder) -> str:
        """Say what still runs tasks of a folder although the process that started it has ended; empty for nothing."""
        return ""

    def job_logs(self, folder: TaskFolder) -> Path | None:
        """Where the engine keeps what its jobs say before and between tasks; None if they have no output."""
        return None

    @abstractmethod
    def start(self, folder: TaskFolder, tasks: Sequence[Task], ranks: Sequence[int]) -> None:
        """Start tasks, without waiting for them.

        Args:
            folder: Their folder, which holds `tasks`.
            tasks: All tasks of the folder.
            ranks: Ranks of the tasks to run.

        Raises:
            JobError: The engine refuses them.
        """

    @abstractmethod
    def is_active(self) -> bool:
        """Whether tasks are running or waiting to run.

        Raises:
            JobError: The engine failed.
        """

    @abstractmethod
    def stop(self) -> None:
        """End all running tasks, and start no more; waits until they have ended."""

    def forget(self, folder: TaskFolder) -> None:  # noqa: B027 - most engines leave nothing
        """Remove what `start` left in the folder for `still_running`."""
