"""A folder in an object store: ``s3://``, and untested ``gs://`` and ``az://``.

What is ensured. An object is whole or absent by the store's protocol, and strongly consistent. A
put is believed only when the store's entity tag is the MD5 of the bytes sent, or, where tags mean
something else (encryption, other clouds), when reading back gives the same bytes. A request whose
answer was lost is sent again; what a refusal means then is decided by reading back. Addresses and
credentials come from the usual environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL, AWS_ALLOW_HTTP, or the machine's own role.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from catalogs.errors import InputError, IntegrityError, SkytallyError
from catalogs.storage.patience import Attempts, Patience, patiently
from catalogs.storage.place import is_loopback, other_bytes

if TYPE_CHECKING:
    from obstore import PutMode
    from obstore.store import AzureStore, ClientConfig, GCSStore, RetryConfig, S3Store

    from catalogs.storage.bucket_zarr import BucketStore
    from catalogs.storage.lease import Lease

SCHEMES = ("s3", "gs", "az")
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
CONNECT_SECONDS = 10.0


class Bucket:
    """A folder in an object store; see :class:`catalogs.storage.place.Place`.

    Parameters
    ----------
    url : str
        ``s3://bucket/prefix``.
    patience : Patience, optional
        How long to wait; from the environment by default.

    Raises
    ------
    InputError
        The URL is none of a bucket, its endpoint is plain text to another machine, or obstore is
        not installed.
    """

    path: None = None

    def __init__(self, url: str, patience: Patience | None = None) -> None:
        self._scheme, self._bucket, self._prefix = _parts(url)
        self.patience = patience or Patience.from_environment()
        self.store  # noqa: B018  (bad settings are told at once)

    @property
    def url(self) -> str:
        """Where it is, without a slash at the end."""
        return f"{self._scheme}://{self._bucket}/{self._prefix}".rstrip("/")

    @cached_property
    def store(self) -> S3Store | GCSStore | AzureStore:
        """The store as obstore knows it; its names are those of the place."""
        try:
            from obstore.exceptions import BaseError
            from obstore.store import AzureStore, GCSStore, S3Store
        except ImportError:
            raise InputError(
                f"{self.url}: object stores need obstore; pip install 'skytally[cloud]'"
            ) from None
        client: ClientConfig = {
            "connect_timeout": timedelta(seconds=min(CONNECT_SECONDS, self.patience.request)),
            "read_timeout": timedelta(seconds=self.patience.request),
            "timeout": timedelta(seconds=2 * self.patience.request),
        }
        if self._scheme == "s3" and _plain_endpoint():
            client["allow_http"] = True
        once: RetryConfig = {"max_retries": 0}
        kinds: dict[str, type[S3Store | GCSStore | AzureStore]] = {
            "s3": S3Store,
            "gs": GCSStore,
            "az": AzureStore,
        }
        open_store = partial(kinds[self._scheme], self._bucket, prefix=self._prefix or None)
        try:
            return open_store(client_options=client, retry_config=once)
        except (BaseError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(f"{self.url}: cannot be opened: {reason}") from None

    def read(self, name: str) -> bytes:
        """Return an object's bytes; see `Place.read`."""
        return self.tagged(name)[0]

    def tagged(self, name: str) -> tuple[bytes, str | None]:
        """Return an object's bytes, and the entity tag that stands for them."""
        import obstore

        def once() -> tuple[bytes, str | None]:
            found = obstore.get(self.store, name)
            return found.bytes().to_bytes(), found.meta["e_tag"]

        return patiently(self._what(name, "read"), self.patience, once)

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Return some bytes of an object."""
        import obstore

        return patiently(
            self._what(name, "read"),
            self.patience,
            lambda: obstore.get_range(self.store, name, start=start, end=stop).to_bytes(),
        )

    def open(self, name: str) -> BinaryIO:
        """Return an object for reading here and there; see `Place.open`."""
        size = self.size(name)
        if size is None:
            raise FileNotFoundError(f"{self.url}/{name} does not exist")
        return io.BufferedReader(_Object(self, name, size))

    def size(self, name: str) -> int | None:
        """Return an object's size, None when there is none; see `Place.size`."""
        import obstore

        try:
            return patiently(
                self._what(name, "looked at"),
                self.patience,
                lambda: obstore.head(self.store, name)["size"],
            )
        except FileNotFoundError:
            return None

    def names(self, under: str = "") -> list[str]:
        """Return every object below a folder; see `Place.names`. A broken listing goes on."""
        import obstore
        from obstore.exceptions import BaseError

        found: list[str] = []
        attempts = Attempts(self._what(under, "listed"), self.patience)
        while True:
            known = len(found)
            try:
                for page in obstore.list(
                    self.store, under or None, offset=found[-1] if found else None
                ):
                    found += [entry["path"] for entry in page]
            except BaseError as error:
                if len(found) > known:
                    attempts = Attempts(self._what(under, "listed"), self.patience)
                time.sleep(attempts.wait_after(error))
            else:
                return sorted(found)

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Put an object in place; see `Place.write`."""
        what = self._what(name, "written")
        tag = patiently(what, self.patience, lambda: self.put(name, content, "overwrite"))
        self._believe(name, content, tag)

    def note(self, name: str, content: bytes | memoryview) -> None:
        """Put an object in place; see `Place.note`. Here it is as durable as any."""
        self.write(name, content)

    def create(self, name: str, content: bytes | memoryview) -> None:
        """Put an object in place if there is none; see `Place.create`."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        def once() -> str | None:
            try:
                return self.put(name, content, "create")
            except AlreadyExistsError as taken:
                try:
                    there = obstore.get(self.store, name)
                    same = there.bytes().to_bytes() == bytes(content)
                except FileNotFoundError:
                    raise taken from None  # two at once, and the store took neither: again
                if not same:
                    raise other_bytes(f"{self.url}/{name}") from None
                return there.meta["e_tag"]

        tag = patiently(self._what(name, "written"), self.patience, once)
        self._believe(name, content, tag)

    def put(self, name: str, content: bytes | memoryview, mode: PutMode) -> str | None:
        """Put an object by one request and return its entity tag; errors are obstore's."""
        import obstore

        return obstore.put(self.store, name, content, mode=mode, use_multipart=False)["e_tag"]

    def move(self, name: str, to: str) -> None:
        """Copy an object on the server and remove the old one; see `Place.move`."""
        import obstore

        what = self._what(to, "written")
        try:
            patiently(what, self.patience, lambda: obstore.copy(self.store, name, to))
            tags = [
                patiently(what, self.patience, partial(obstore.head, self.store, at))["e_tag"]
                for at in (name, to)
            ]
        except FileNotFoundError:
            return  # moved already
        if tags[0] != tags[1] and self.read(name) != self.read(to):
            raise IntegrityError(f"{self.url}/{to} is not the copy of {name}; see to the store")
        self.remove(name)

    def remove(self, name: str) -> None:
        """Remove an object, if it is there; see `Place.remove`."""
        import obstore

        try:
            patiently(
                self._what(name, "removed"),
                self.patience,
                lambda: obstore.delete(self.store, name),
            )
        except FileNotFoundError:
            return

    def remove_leftovers(self) -> None:
        """Do nothing: an object is whole or absent; see `Place.remove_leftovers`."""

    @contextmanager
    def hold(self, name: str) -> Iterator[Lease]:
        """Hold a lock; see `Place.hold` and :mod:`catalogs.storage.lease`."""
        from catalogs.storage.lease import Lease

        lease = Lease(self.url, name, self.patience)
        lease.acquire()
        try:
            yield lease
        finally:
            lease.release()

    def zarr(self, *, read_only: bool = True) -> BucketStore:
        """Return the folder as a Zarr store."""
        from catalogs.storage.bucket_zarr import BucketStore

        return BucketStore(self, read_only=read_only)

    def _what(self, name: str, verb: str) -> str:
        return f"{self.url}/{name} cannot be {verb}"

    def _believe(self, name: str, content: bytes | memoryview, tag: str | None) -> None:
        """Accept a put whose tag is the MD5 of its bytes, or whose bytes come back."""
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if (tag or "").strip('"') != digest and self.read(name) != bytes(content):
            raise SkytallyError(
                f"{self.url}/{name} does not hold what was written to it; see to the store, "
                "and that no other program writes there"
            )


class _Object(io.RawIOBase):
    """An object as a file that can be read only."""

    def __init__(self, bucket: Bucket, name: str, size: int) -> None:
        self._bucket, self._name, self._size, self._at = bucket, name, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        stop = min(self._at + len(buffer), self._size)
        if stop <= self._at:
            return 0
        found = self._bucket.read_range(self._name, self._at, stop)
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


def _parts(url: str) -> tuple[str, str, str]:
    """Return scheme, bucket and prefix."""
    scheme, _, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme not in SCHEMES:
        known = ", ".join(f"{known}://" for known in SCHEMES)
        raise InputError(f"{scheme}:// is no kind of storage known here; use a path or {known}")
    if not bucket or "@" in bucket or ":" in bucket:
        raise InputError(
            f"the address of a bucket is {scheme}://BUCKET/PREFIX; "
            "credentials and endpoint belong in the environment"
        )
    prefix = prefix.strip("/")
    if any(part in ("", ".", "..") for part in prefix.split("/")) and prefix:
        raise InputError(f"{url}: a prefix has no empty part, '.' or '..'")
    return scheme, bucket, prefix


def _plain_endpoint() -> bool:
    """Say whether the endpoint is plain text.

    Raises
    ------
    InputError
        It is, and on another machine, and nobody allowed that; or it is no address.
    """
    endpoint = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), "")
    parts = urlsplit(endpoint)
    if endpoint and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise InputError("AWS_ENDPOINT_URL is no address; give one such as https://host:9000")
    if parts.scheme != "http":
        return False
    allowed = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes", "on")
    if not allowed and not is_loopback(parts.hostname or ""):
        raise InputError(
            f"the endpoint http://{parts.hostname} would send data and credentials' signatures "
            "in plain text to another machine; use https, or set AWS_ALLOW_HTTP=true"
        )
    return True
