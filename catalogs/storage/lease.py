"""A lock in an object store: a small object that its holder renews, and only its holder.

A bucket knows nothing of processes, so a holder gives signs of life: it replaces the object every
few seconds, on condition that it is still its own. Somebody else who finds the object watches it:
a change means a live holder. Only when it stays the same for the lease's whole time, by the
watcher's own clock (clocks of two machines are never compared), is it replaced, on condition again,
so that of several watchers one wins. A holder that could not renew for two thirds of that time
considers the lock lost, before anybody may take it.

Two drivers with one plan could not corrupt a catalog even without a lock: a pixel's bytes are the
same whoever makes them, and its receipt is created only if there is none. The lock saves work, and
keeps a driver with an older plan from putting older files beside newer receipts.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from catalogs.errors import BusyError, SkytallyError
from catalogs.storage.bucket import Bucket
from catalogs.storage.patience import Patience, patiently

RENEWALS = 10  # in a lease's time
OWN_SHARE = 2 / 3  # of a lease's time, after which its holder does not trust it any more
LONGEST_LEASE = 3600.0


class Lease:
    """One lock, held or wanted; a :class:`catalogs.storage.place.Lock`.

    Parameters
    ----------
    url : str
        The bucket and prefix.
    name : str
        The lock's object.
    patience : Patience
        ``lease`` is how long the lock outlives a holder that was killed.
    """

    def __init__(self, url: str, name: str, patience: Patience) -> None:
        seconds = patience.lease
        hurry = replace(
            patience,
            request=min(patience.request, seconds / 6),
            total=min(patience.total, seconds / 2),
        )
        self._bucket = Bucket(url, hurry)
        self._name = name
        self._seconds = seconds
        self._token = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"
        self._signs = 0
        self._tag: str | None = None
        self._trusted_until = 0.0
        self._lost: str | None = None
        self._ended = threading.Event()
        self._renewer = threading.Thread(target=self._renew, name=f"lock {name}", daemon=True)

    def acquire(self) -> None:
        """Take the lock.

        Raises
        ------
        BusyError
            Another process holds it.
        SkytallyError
            The store does not keep conditions, so that nothing could be locked there.
        """
        started = time.monotonic()
        if not self._replace(None):
            there, tag = self._look()
            if there is not None and not there.get("released"):
                self._watch(there, tag)
            started = time.monotonic()
            if not self._replace(tag):
                raise self._busy({})
        self._trusted_until = started + OWN_SHARE * self._seconds
        self._insist_on_conditions()
        self._renewer.start()

    def check(self) -> None:
        """Raise a `BusyError` when the lock was lost; see `Lock.check`."""
        late = time.monotonic() > self._trusted_until
        if late or self._lost is not None:
            reason = self._lost or "it could not be renewed in time"
            raise BusyError(
                f"the lock of {self._bucket.url} was lost ({reason}); all that is done stays; "
                "run the same command again"
            )

    def release(self) -> None:
        """Mark the lock as free, if it is still held.

        It is not removed: a removal cannot be made conditional, and one that comes late could
        remove the next holder's.
        """
        self._ended.set()
        self._renewer.join()
        if self._lost is None and time.monotonic() < self._trusted_until:
            try:
                self._replace(self._tag, released=True)
            except SkytallyError:
                return  # it runs out by itself

    def _renew(self) -> None:
        while not self._ended.wait(self._seconds / RENEWALS):
            started = time.monotonic()
            try:
                if not self._replace(self._tag):
                    self._lost = "another process took it"
                    return
            except BusyError:
                if time.monotonic() > self._trusted_until:
                    self._lost = "the store did not answer"
                    return
            except SkytallyError as error:
                self._lost = str(error)
                return
            else:
                self._trusted_until = started + OWN_SHARE * self._seconds

    def _replace(self, tag: str | None, *, released: bool = False) -> bool:
        """Put a new sign in the place of the object with that tag (None: of nothing), or say no."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        self._signs += 1
        sign: dict[str, Any] = {
            "holder": self._token,
            "sign": self._signs,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": self._seconds,
            "released": released,
        }
        content = json.dumps(sign).encode()

        def once() -> tuple[bool, str | None]:
            nonlocal tag
            try:
                mode: Any = "create" if tag is None else {"e_tag": tag}
                return True, self._bucket.put(self._name, content, mode)
            except (AlreadyExistsError, PreconditionError, FileNotFoundError) as refused:
                # Ours, whose answer was lost; or nobody's, when the store took neither of two.
                there, found = self._look()
                if there == sign:
                    return True, found
                if there is not None and there.get("holder") == self._token:
                    tag = found  # an earlier sign of ours, given up for lost, that came late
                    raise
                if found == tag and not isinstance(refused, FileNotFoundError):
                    raise
                return False, None

        what = f"{self._bucket.url}/{self._name} cannot be locked"
        mine, found = patiently(what, self._bucket.patience, once)
        if mine:
            self._tag = found
        return mine

    def _look(self) -> tuple[dict[str, Any] | None, str | None]:
        """Return the sign that is there and its tag; None, None when there is none."""
        try:
            content, tag = self._bucket.tagged(self._name)
        except FileNotFoundError:
            return None, None
        try:
            sign = json.loads(content)
        except ValueError:
            sign = {}
        return (sign if isinstance(sign, dict) else {}), tag

    def _watch(self, there: dict[str, Any], tag: str | None) -> None:
        """Return when the holder has given no sign for its lease's time.

        Raises
        ------
        BusyError
            It has.
        """
        seconds = there.get("seconds")
        if not isinstance(seconds, int | float) or not 0 < seconds < LONGEST_LEASE:
            seconds = self._seconds
        watch = threading.Event()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            watch.wait(seconds / RENEWALS / 2)
            if self._look()[1] != tag:
                raise self._busy(there)

    def _busy(self, there: dict[str, Any]) -> BusyError:
        host, _, rest = str(there.get("holder", "")).partition(":")
        who = f" (on {host}, pid {rest.partition(':')[0]})" if host else ""
        return BusyError(
            f"another process{who} writes into {self._bucket.url}; wait for it, or stop it"
        )

    def _insist_on_conditions(self) -> None:
        """Refuse stores that take a put whose condition does not hold."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        content, _ = self._bucket.tagged(self._name)
        modes: list[Any] = ["create", {"e_tag": '"00000000000000000000000000000000"'}]
        for mode in modes:

            def once(mode: Any = mode) -> bool:  # noqa: ANN401
                try:
                    self._bucket.put(self._name, content, mode)
                except (AlreadyExistsError, PreconditionError):
                    return True
                return False

            what = f"{self._bucket.url}/{self._name} cannot be locked"
            if not patiently(what, self._bucket.patience, once):
                raise SkytallyError(
                    f"{self._bucket.url}: the store ignores If-None-Match and If-Match, so "
                    "nothing can be locked or created once there; use another store"
                )
