"""Calls of the Hub's client: which errors may pass, how long to wait, and the one line that a person reads."""

import functools
import os
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, TypeVar

import httpx2
from huggingface_hub import HfApi, constants, get_token, set_client_factory
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import _http
from huggingface_hub.utils.tqdm import disable_progress_bars

from medmnist_hf.errors import HubError, first_line
from medmnist_hf.network import (
    LargeResponseError,
    Limits,
    Silence,
    SilentServerError,
    UnreachableServerError,
    apply_limits,
    is_transient_status,
)

MAIN: Final = "main"
_TRIES: Final = 5
_FIRST_WAIT: Final = 0.5
"""Seconds before the second try; each further one waits twice as long."""

_LONGEST_WAIT: Final = 60.0
"""Seconds; where the Hub asks for more, the call fails and the person may come back later."""
_READ_TIMEOUT: Final = 30.0
"""Seconds for the Hub to answer, and between two pieces of an answer, where the environment does not say; it usually
answers within one or two."""

_CHANGE_FACTOR: Final = 4
"""How much longer it may take to answer what changes something: a commit of many files takes up to a minute."""

_UNSIZED: Final = 1 << 30
"""Bytes of the longest file that comes without a length, as large texts of model repositories do."""

_SILENT_IN_ROW: Final = 3
"""Requests in a row without a whole answer after which a call fails: the Hub's client asks up to six times for each
request and we up to five times for each call, so that the person would wait for a quarter of an hour."""
_Result = TypeVar("_Result")


def client_errors() -> tuple[type[Exception], ...]:
    """What the Hub's client raises: errors of its own, of the HTTP library and of the Xet library."""
    return (OSError, ValueError, RuntimeError, httpx2.HTTPError)


@functools.cache
def apply_hub_limits() -> None:
    """Make the Hub's client of this process wait for no answer for ever and read none without end; all users call it.

    It is made without any time-out otherwise. A client that somebody has set up otherwise keeps its proxies and
    certificates. ``HF_HUB_DOWNLOAD_TIMEOUT`` sets the time-out in seconds; ``HF_HUB_ETAG_TIMEOUT`` raises it.
    """
    made, limits, silence = _http._GLOBAL_CLIENT_FACTORY, hub_limits(), Silence()
    # Transfers by Xet have a client of their own, which reads its time-out from the environment when the first starts.
    os.environ.setdefault("HF_XET_CLIENT_READ_TIMEOUT", f"{limits.read:.0f}s")
    set_client_factory(lambda: apply_limits(made(), limits, silence))


def hub_limits() -> Limits:
    """How long to wait for the Hub, by the environment, and how much to take from it."""
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
    409: "it is there already or in conflict: look at the repository and run again",
    412: "the repository has changed meanwhile: run again",
    413: "the request is too large: build with a smaller --max-shard-size",
    429: "too many requests: run again later",
}


_FROM_NETWORK: Final = (httpx2.TransportError, UnreachableServerError)


def reason_of(error: Exception) -> str:
    """Why a call of the Hub's client failed, for a line of ours: with the status, and in the Hub's words."""
    status = _status_of(error)
    if not status:  # what the client says of a network that failed is longer and holds less than what it comes from
        return first_line(error.__cause__ if isinstance(error.__cause__, _FROM_NETWORK) else error)
    phrase = f"HTTP {status} {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else f"HTTP {status}"
    answer = getattr(error, "server_message", None)
    return f"{phrase}, {first_line(answer)}" if answer else phrase


def _status_of(error: Exception) -> int:
    """The status of an answer, 0 where none came, also where the client has put another error around it."""
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return int(error.response.status_code)
    cause = error.__cause__
    return _status_of(cause) if isinstance(cause, HfHubHTTPError) else 0


def to_hub_error(what: str, error: Exception) -> HubError:
    """One line for an error of the Hub's client."""
    status = _status_of(error)
    if status:
        advice = _ADVICE.get(status, "run again" if status >= 500 else "check the arguments and run again")
    elif isinstance(error, LargeResponseError):
        advice = "that is no answer of a Hub, check HF_ENDPOINT and the proxy"
    elif isinstance(error, OfflineModeIsEnabled) and not isinstance(error, UnreachableServerError):
        advice = "unset HF_HUB_OFFLINE and run again"
    else:
        advice = "check the network and run again"
    return HubError(f"cannot {what} ({reason_of(error)}): {advice}", status)


def is_transient(error: Exception) -> bool:
    """The same call may succeed later: the network failed, or the Hub is busy or broken."""
    if isinstance(error, HfHubHTTPError):
        return error.response is not None and is_transient_status(error.response.status_code)
    if isinstance(error, OfflineModeIsEnabled | SilentServerError):
        return False
    return isinstance(error, (httpx2.TransportError, ConnectionError, TimeoutError))


def wait_before(error: Exception, attempt: int) -> bool:
    """Sleep as the Hub asks by Retry-After, or twice as long each time; False if it asks for too long."""
    asked = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    seconds = float(asked) if asked.isdecimal() else _FIRST_WAIT * 2**attempt
    if seconds > _LONGEST_WAIT:
        return False
    time.sleep(seconds)
    return True


def call_with_retries(
    what: str, call: Callable[[], _Result], tries: int = _TRIES, reraise: tuple[type[Exception], ...] = ()
) -> _Result:
    """Call the Hub, again where it is busy or the network fails; only for calls that may be repeated.

    Args:
        what: What is tried, to follow "cannot" in an error.
        call: The call.
        tries: At most so often.
        reraise: Errors that are raised unchanged.

    Raises:
        HubError: It was refused, or all tries failed.
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
    """The client, which names this project to the Hub and waits for it with limits."""
    apply_hub_limits()
    return HfApi(library_name="medmnist-hf")


def hide_progress_bars() -> None:
    """Show no bars of the Hub's client, for who has one of its own, unless ``HF_HUB_DISABLE_PROGRESS_BARS`` is 0."""
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
        disable_progress_bars()


def require_token(api: HfApi) -> None:
    """Raise `HubError` where there is no token to write with."""
    if not api.token and get_token() is None:
        raise HubError("no token for the Hub: log in with `hf auth login`, or set HF_TOKEN")
