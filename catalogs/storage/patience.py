"""Requests to an object store that fail: which are sent again, how long, and what a user is told.

obstore's own retries are off: they give up on a conditional put whose answer was lost, which is
safe to send again here, because whoever sends it reads back what a refusal means.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeVar

from catalogs.errors import BusyError, InputError, SkytallyError

if TYPE_CHECKING:
    from obstore.exceptions import BaseError

Result = TypeVar("Result")

ENVIRONMENT_PREFIX = "SKYTALLY_BUCKET_"
FIRST_WAIT, LONGEST_WAIT = 0.05, 15.0  # seconds
# Refusals that the next try may not meet again: the request was damaged or cut on its way.
TRY_AGAIN_CODES = frozenset(
    ["RequestTimeout", "BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"]
)
TRY_AGAIN_STATUS = frozenset([408, 409, 412, 425, 429])
BROKEN = {
    "Connect": "no connection",
    "Timeout": "no answer in time",
    "Request": "the connection broke",
    "Interrupted": "the answer broke off",
}
METADATA_SERVICE = "169.254."


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for an object store; each can be set by ``SKYTALLY_BUCKET_…_SECONDS``.

    Attributes
    ----------
    request : float
        Longest silence of one request [s]; the whole of it may take twice as long.
    total : float
        Since an operation began, nothing is sent again after this long [s].
    lease : float
        A lock whose holder has given no sign for so long may be taken over [s].
    """

    request: float = 60.0
    total: float = 150.0
    lease: float = 60.0

    @classmethod
    def from_environment(cls) -> Patience:
        """Return the defaults, or what the environment says.

        Raises
        ------
        InputError
            A variable is no positive number.
        """
        found = {}
        for field in fields(cls):
            variable = f"{ENVIRONMENT_PREFIX}{field.name.upper()}_SECONDS"
            text = os.environ.get(variable)
            if text is None:
                continue
            try:
                found[field.name] = float(text)
            except ValueError:
                found[field.name] = 0.0
            if not 0 < found[field.name] < float("inf"):
                raise InputError(f"{variable}={text} is not a positive number of seconds")
        return cls(**found)


def patiently(what: str, patience: Patience, call: Callable[[], Result]) -> Result:
    """Return ``call()``, tried again while that may help.

    Parameters
    ----------
    what : str
        What a user is told when it fails, such as ``s3://bucket/name cannot be read``.

    Raises
    ------
    FileNotFoundError
        There is no such object.
    InputError
        The bucket does not exist, or refuses the credentials.
    BusyError
        The store did not answer well for too long.
    SkytallyError
        It refuses for good.
    """
    from obstore.exceptions import BaseError

    attempts = Attempts(what, patience)
    while True:
        try:
            return call()
        except FileNotFoundError as error:
            raise missing(what, error) from None
        except BaseError as error:
            time.sleep(attempts.wait_after(error))


class Attempts:
    """One operation's tries so far."""

    def __init__(self, what: str, patience: Patience) -> None:
        self._what = what
        self._patience = patience
        self._started = time.monotonic()
        self._tries = 0

    def wait_after(self, error: BaseError) -> float:
        """Return the seconds to wait before the next try: exponential, with jitter.

        Raises
        ------
        BusyError, InputError, SkytallyError
            There shall be no next one; see `patiently`.
        """
        final = refusal(self._what, error)
        if final is not None:
            raise final from None
        self._tries += 1
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(self._tries, 16))
        wait *= random.uniform(0.5, 1.0)  # noqa: S311  (spreads the load, keeps no secret)
        since = time.monotonic() - self._started
        if since + wait > self._patience.total:
            reason = _reason(str(error))
            if METADATA_SERVICE in str(error):
                raise no_credentials(self._what) from None
            raise BusyError(
                f"{self._what} now: {reason}, {self._tries} tries in {since:.0f} s; "
                "run the same command again later"
            ) from None
        return wait


def missing(what: str, error: FileNotFoundError) -> Exception:
    """Tell an object that is not there from a bucket that is not there."""
    if "NoSuchBucket" in str(error):
        return InputError(f"{what}: no such bucket; make it first, or name another")
    return FileNotFoundError(f"{what}: it does not exist")


def refusal(what: str, error: BaseError) -> SkytallyError | None:
    """Return what to raise when trying again will not help, else None.

    The message holds the store's status and code only: its whole answer may hold key ids.
    """
    text = str(error)
    status, code = _status(text)
    if METADATA_SERVICE in text and status is not None:
        return no_credentials(what)
    if status in (401, 403):
        return InputError(
            f"{what}: the store refuses ({_reason(text)}); see to the credentials in the "
            "environment (AWS_ACCESS_KEY_ID …) and to the bucket's policy"
        )
    if code == "NoSuchBucket":
        return InputError(f"{what}: no such bucket; make it first, or name another")
    if "redirect without LOCATION" in text:
        return InputError(f"{what}: the bucket lies in another region; set AWS_REGION")
    if status is None or status >= 500 or status in TRY_AGAIN_STATUS or code in TRY_AGAIN_CODES:
        return None
    return SkytallyError(f"{what}: the store refuses ({_reason(text)}); see to the bucket")


def no_credentials(what: str) -> InputError:
    """Return the error of a machine that has no credentials, nor a service that gives some."""
    return InputError(
        f"{what}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the "
        "machine a role"
    )


def _status(text: str) -> tuple[int | None, str]:
    status = re.search(r"status code: (\d{3})", text)
    code = re.search(r"<Code>(\w{1,64})</Code>", text)
    return int(status[1]) if status else None, code[1] if code else ""


def _reason(text: str) -> str:
    status, code = _status(text)
    if status is not None:
        return f"{status} {code}".strip()
    kind = re.search(r"kind: (\w+)", text)
    broken = BROKEN.get(kind[1] if kind else "", "the request failed")
    host = re.search(r"performing [A-Z]+ (https?://[^/?\s]+)", text)
    return f"{broken} ({host[1]})" if host else broken
