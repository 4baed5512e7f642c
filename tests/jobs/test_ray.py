"""Ray without a cluster; whole runs on one are slow tests elsewhere."""

import socket
import time

import pytest

from medmnist_hf.errors import JobError
from medmnist_hf.jobs.ray import RayEngine
from medmnist_hf.jobs.settings import RaySettings, Settings


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:{port}", "Connection refused"),
        ("auto", "Connection refused"),
        ("127.0.0.1:99999", ""),
        ("nowhere", "Invalid address format: nowhere"),
    ],
)
def test_no_cluster_at_the_address_is_one_line_at_once(
    monkeypatch: pytest.MonkeyPatch, address: str, reason: str
) -> None:
    """Ray itself waits for minutes and cannot be interrupted meanwhile."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    address = address.format(port=port)
    begun = time.monotonic()
    with pytest.raises(JobError) as error:
        RayEngine(Settings(ray=RaySettings(address))).check()
    assert time.monotonic() - begun < 10
    message = str(error.value)
    assert message.startswith(f"no Ray cluster at {address} (") and reason in message and "\n" not in message
    assert message.endswith("): start one with ray start, and give its address in the engine's settings")
