"""Calls of `huggingface_hub`: which errors to retry, how long to wait, and how errors are reported in one line."""

import functools
import os
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, TypeVar

from huggingface_hub import HfApi, constants, get_token, set_client_factory
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import _http
from huggingface_hub.utils.tqdm import disable_progress_bars

from medmnist_hf.errors import HubError, UnreachableHubError, first_line
from medmnist_hf.network import (
    LargeResponseError,
    Limits,
    Silence,
    SilentServerError,
    UnreachableServerError,
    apply_limits,
    httpx,
    is_transient_status,
)

MAIN: Final = "main"
_TRIES: Final = 5
_FIRST_WAIT: Final = 0.5
"""Seconds before the second try; the wait doubles with each further try."""

_MAX_WAIT: Final = 60.0
"""Longest wait in seconds; if the Hub asks for a longer one, the call fails."""
_READ_TIMEOUT: Final = 30.0
"""Default seconds for the Hub to respond, and between two chunks of a response; it usually takes one or two."""

_CHANGE_FACTOR: Final = 4
"""Factor on the timeout for requests that change something: a commit of many files takes up to a minute."""

_UNSIZED: Final = 1 << 30
"""Largest file without a declared length, in bytes; large text files of model repositories have none."""

_SILENT_IN_ROW: Final = 3
"""Consecutive requests without a complete response after which a call fails. `huggingface_hub` sends a request up to
six times and we repeat a call up to five times, so without this limit a user would wait a quarter of an hour."""

_Result = TypeVar("_Result")


def client_errors() -> tuple[type[Exception], ...]:
    """Return the types of errors that `huggingface_hub` raises: its own and those of its HTTP and Xet libraries."""
    return (OSError, ValueError, RuntimeError, httpx.HTTPError)


@functools.cache
def apply_hub_limits() -> None:
    """Limit the waiting time and the response size of `huggingface_hub` in this process; call it before any request.

    By default its HTTP client has no timeout. A client factory that was set before keeps its proxies and certificates.
    ``HF_HUB_DOWNLOAD_TIMEOUT`` sets the timeout in seconds; ``HF_HUB_ETAG_TIMEOUT`` raises it.
    """
    factory, limits, silence = _http._GLOBAL_CLIENT_FACTORY, hub_limits(), Silence()
    # Xet transfers use a separate client, which reads its timeout from the environment at its first transfer.
    os.environ.setdefault("HF_XET_CLIENT_READ_TIMEOUT", f"{limits.read:.0f}s")
    set_client_factory(lambda: apply_limits(factory(), limits, silence))


def hub_limits() -> Limits:
    """Return the limits for requests to the Hub, with timeouts from the environment."""
    read = max(_READ_TIMEOUT, constants.HF_HUB_ETAG_TIMEOUT)
    if os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT"):
        read = constants.HF_HUB_DOWNLOAD_TIMEOUT
    return Limits(
        read=read,
        change=_CHANGE_FACTOR * read,
        window=2 * read,
        unsized=_UNSIZED,
        in_row=_SILENT_IN_ROW,
        gives_up=True,
    )


_ADVICE: Final = {
    401: "the token is unknown or has expired: log in with `hf auth login`, or set HF_TOKEN",
    403: "the token may not do this: use one with write access to the namespace",
    404: "no such repository or revision, or the token may not see it: check the name and the token",
    409: "it exists already or there is a conflict: look at the repository and run again",
    412: "the repository has changed meanwhile: run again",
    413: "the request is too large: build with a smaller --max-shard-size",
    429: "too many requests: run again later",
}


_FROM_NETWORK: Final = (httpx.TransportError, UnreachableServerError)


def reason_of(error: Exception) -> str:
    """Return why a call of `huggingface_hub` failed, with the HTTP status and the Hub's message if there are any."""
    status = _status_of(error)
    if not status:  # for a network failure, the cause is shorter and more specific than the client's message
        return first_line(error.__cause__ if isinstance(error.__cause__, _FROM_NETWORK) else error)
    phrase = f"HTTP {status} {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else f"HTTP {status}"
    server_message = getattr(error, "server_message", None)
    return f"{phrase}, {first_line(server_message)}" if server_message else phrase


def _status_of(error: Exception) -> int:
    """Return the HTTP status of an error or of its cause; 0 if there was no response."""
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return int(error.response.status_code)
    cause = error.__cause__
    return _status_of(cause) if isinstance(cause, HfHubHTTPError) else 0


def to_hub_error(what: str, error: Exception) -> HubError:
    """Convert an error of `huggingface_hub` to a `HubError`; `what` follows "cannot" in its message."""
    status = _status_of(error)
    kind = HubError if status or isinstance(error, LargeResponseError) else UnreachableHubError
    if status:
        advice = _ADVICE.get(status, "run again" if status >= 500 else "check the arguments and run again")
    elif isinstance(error, LargeResponseError):
        advice = "this is not a response of the Hub, check HF_ENDPOINT and the proxy"
    elif isinstance(error, OfflineModeIsEnabled) and not isinstance(error, UnreachableServerError):
        advice = "unset HF_HUB_OFFLINE and run again"
    else:
        advice = "check the network and run again"
    return kind(f"cannot {what} ({reason_of(error)}): {advice}", status)


def is_transient(error: Exception) -> bool:
    """Return whether the same call may succeed later: the network failed, or the Hub is busy or failing."""
    if isinstance(error, HfHubHTTPError):
        return error.response is not None and is_transient_status(error.response.status_code)
    if isinstance(error, OfflineModeIsEnabled | SilentServerError):
        return False
    return isinstance(error, (httpx.TransportError, ConnectionError, TimeoutError))


def wait_before(error: Exception, attempt: int) -> bool:
    """Sleep before a retry, for the time in Retry-After or with doubling waits; return False if that is too long."""
    retry_after = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    seconds = float(retry_after) if retry_after.isdecimal() else _FIRST_WAIT * 2**attempt
    if seconds > _MAX_WAIT:
        return False
    time.sleep(seconds)
    return True


def call_with_retries(
    what: str, call: Callable[[], _Result], tries: int = _TRIES, reraise: tuple[type[Exception], ...] = ()
) -> _Result:
    """Call the Hub, and retry if it is busy or the network fails; only for calls that may be repeated.

    Args:
        what: What the call does; follows "cannot" in an error message.
        call: The call.
        tries: Largest number of tries.
        reraise: Errors that are raised unchanged.

    Raises:
        HubError: The Hub refused the call, or all tries failed.
    """
    for attempt in range(tries):
        try:
            return call()
        except reraise:
            raise
        except client_errors() as error:
            if attempt + 1 < tries and is_transient(error) and wait_before(error, attempt):
                continue
            raise to_hub_error(what, error) from None
    raise AssertionError("unreachable")


def hub_api() -> HfApi:
    """Return a client with limits on waiting, which sends this project's name to the Hub."""
    apply_hub_limits()
    return HfApi(library_name="medmnist-hf")


def hide_progress_bars() -> None:
    """Hide the progress bars of `huggingface_hub`, for commands with their own, unless the user asks for them.

    ``HF_HUB_DISABLE_PROGRESS_BARS=0`` shows them.
    """
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
        disable_progress_bars()


def require_token(api: HfApi) -> None:
    """Raise `HubError` if there is no token."""
    if not api.token and get_token() is None:
        raise HubError("no token for the Hub: log in with `hf auth login`, or set HF_TOKEN")
