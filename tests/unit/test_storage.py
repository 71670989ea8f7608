"""Places: whole or absent, created once, moved, locked; on a disk and in a bucket."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from s3 import (
    BUCKET,
    Faults,
    client,
    credentials_checked,
    environment,
    fault_proxy,
    objects,
    s3_server,
)

from catalogs.errors import BusyError, InputError, IntegrityError, SkytallyError
from catalogs.storage.bucket import Bucket
from catalogs.storage.disk import Disk
from catalogs.storage.lease import Lease
from catalogs.storage.patience import Patience
from catalogs.storage.place import Lock, Place, above, open_place

QUICK = Patience(request=0.3, total=30, lease=3)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture(autouse=True)
def _surroundings(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(endpoint, lease=3).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return request.node.name.replace("[", "-").replace("]", "")


@pytest.fixture(params=["disk", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path, prefix: str) -> Place:
    return open_place(tmp_path / "a b" if request.param == "disk" else f"s3://{BUCKET}/{prefix} b/")


def test_what_is_written_is_read(place: Place) -> None:
    for name, content in {
        "a": b"1",
        "deep/er/b.json": b"",
        "deep/c%20 d": bytes(range(256)),
    }.items():
        place.write(name, content)
        assert place.read(name) == content
        assert place.size(name) == len(content)
    place.write("a", memoryview(b"other"))
    assert place.read("a") == b"other"
    assert place.names() == ["a", "deep/c%20 d", "deep/er/b.json"]
    assert place.names("deep") == ["deep/c%20 d", "deep/er/b.json"]
    assert place.names("dee") == []
    with place.open("deep/c%20 d") as stream:
        stream.seek(-6, os.SEEK_END)
        assert stream.read(2) == bytes([250, 251])
        assert stream.read() == bytes([252, 253, 254, 255])
    again = open_place(place.url)
    assert again.url == place.url
    assert again.names() == place.names()


def test_what_is_absent(place: Place) -> None:
    place.write("folder/file", b"1")
    for name in ("none", "folder", "folder/file/below"):
        assert place.size(name) is None
    for name in ("none", "folder/file/below"):
        with pytest.raises(FileNotFoundError):
            place.read(name)
        with pytest.raises(FileNotFoundError):
            place.open(name)
    place.remove("none")
    place.move("none", "other")
    assert place.names() == ["folder/file"]


def test_what_a_place_lies_in(place: Place) -> None:
    here = open_place(f"{place.url}/deeper/there")
    found = [folder.url for folder in above(here)]
    assert found[:2] == [f"{place.url}/deeper", place.url]
    assert found[-1] == (f"s3://{BUCKET}" if place.path is None else "/")
    place.write("mark", b"")
    assert [folder.size("mark") for folder in above(here)[:3]] == [None, 0, None]


def test_created_once(place: Place) -> None:
    place.create("receipt", b"mine")
    place.create("receipt", b"mine")
    with pytest.raises(IntegrityError, match="holds other bytes"):
        place.create("receipt", b"theirs")
    assert place.read("receipt") == b"mine"
    assert place.names() == ["receipt"]


def test_one_of_many_creates(place: Place) -> None:
    """Threads with different bytes: exactly one wins, and the bytes are its."""
    won: list[int] = []
    ready = threading.Barrier(6)

    def create(i: int) -> None:
        ready.wait()
        try:
            place.create("receipt", b"%d" % i)
        except IntegrityError:
            return
        won.append(i)

    threads = [threading.Thread(target=create, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert place.read("receipt") == b"%d" % won[0]
    assert place.names() == ["receipt"]


def test_moved(place: Place) -> None:
    place.write("next/a", b"new")
    place.write("a", b"old")
    place.move("next/a", "a")
    place.move("next/a", "a")
    assert place.read("a") == b"new"
    assert place.names() == ["a"]


def test_held_once(place: Place) -> None:
    with place.hold("lock") as lock:
        lock.check()
        with pytest.raises(BusyError, match="another process"), open_place(place.url).hold("lock"):
            pass
        lock.check()
    with open_place(place.url).hold("lock") as lock:
        lock.check()


def test_zarr_is_that_of_another_client(place: Place, tmp_path: Path) -> None:
    import numpy as np
    import zarr

    values = np.random.default_rng(0).integers(0, 256, 3_000_000, dtype=np.uint8)
    array = zarr.create_array(
        place.zarr(read_only=False),
        name="blob",
        data=values,
        shards=(2_000_000,),
        chunks=(1_000_000,),
        compressors=None,
    )
    assert array.shape == values.shape
    found = zarr.open_group(open_place(place.url).zarr(), mode="r")["blob"]
    assert isinstance(found, zarr.Array)
    for part in (slice(None), slice(1_500_000, 2_600_000), slice(5, 6), slice(999_999, 1_000_001)):
        assert np.array_equal(np.asarray(found[part]), values[part])
    for name in place.names():  # zarr's own store of a disk reads the same objects
        copy = tmp_path / "copy" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(place.read(name))
    assert np.array_equal(np.asarray(zarr.open_array(tmp_path / "copy/blob", mode="r")), values)


# ---------------------------------------------------------------------------- disks


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.EIO, SkytallyError), (errno.ENOSPC, SkytallyError), (errno.EMFILE, BusyError)],
)
@pytest.mark.parametrize(
    ("call", "broken"),
    [
        (lambda place: place.read("a"), "os.stat"),
        (lambda place: place.size("a"), "os.stat"),
        (lambda place: place.names(), "os.scandir"),
        (lambda place: place.write("b", b""), "os.fsync"),
        (lambda place: place.create("b", b""), "os.fsync"),
        (lambda place: place.move("a", "b"), "os.replace"),
        (lambda place: place.remove("a"), "os.unlink"),
    ],
)
def test_what_a_disk_says_is_told(
    call: Callable[[Place], Any],
    broken: str,
    number: int,
    error: type[SkytallyError],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = Disk(tmp_path)
    place.write("a", b"1")

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(broken, fail)
        if broken == "os.stat":
            patched.setattr(Path, "stat", fail)
            patched.setattr(Path, "read_bytes", fail)
        with pytest.raises(error, match=os.strerror(number)) as told:
            call(place)
    assert type(told.value) is error
    assert place.names() == ["a"]


def test_created_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", fail)
    test_created_once(Disk(tmp_path))


# ---------------------------------------------------------------------------- buckets


@pytest.mark.parametrize(
    "fault", ["slow_down", "reset_before", "reset_after", "stall", "cut", "all"]
)
def test_every_operation_through_faults(fault: str, endpoint: str, prefix: str) -> None:
    kinds = ["slow_down", "reset_before", "reset_after", "stall", "cut"]
    chances = dict.fromkeys(kinds, 0.1) if fault == "all" else {fault: 0.4}
    faults = Faults(seed=3, **chances)
    with fault_proxy(endpoint, faults) as address, pytest.MonkeyPatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL", address)
        bucket = Bucket(f"s3://{BUCKET}/{prefix}", QUICK)
        content = os.urandom(300_000)
        for i in range(3):
            bucket.write(f"data/{i}", content)
            bucket.create(f"receipts/{i}", b"%d" % i)
            assert bucket.read(f"data/{i}") == content
            assert bucket.size(f"receipts/{i}") == 1
        assert len(bucket.names()) == 6
        bucket.move("data/0", "moved")
        bucket.move("data/0", "moved")
        bucket.remove("data/1")
        with pytest.raises(IntegrityError):
            bucket.create("receipts/0", b"other")
    assert faults.done["faults"] >= 6
    receipts = {f"receipts/{i}": b"%d" % i for i in range(3)}
    data = {"data/2": content, "moved": content}
    assert objects(endpoint, prefix) == receipts | data


def test_lost_answer_of_a_create_is_success(endpoint: str, prefix: str) -> None:
    faults = Faults(reset_after=1.0, only=("PUT", "receipt"), limit=1)
    with fault_proxy(endpoint, faults) as address, pytest.MonkeyPatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL", address)
        Bucket(f"s3://{BUCKET}/{prefix}", QUICK).create("receipt", b"mine")
    assert faults.done["reset_after"] == 1
    assert objects(endpoint, prefix) == {"receipt": b"mine"}


def test_patience_ends(endpoint: str, prefix: str) -> None:
    with (
        fault_proxy(endpoint, Faults(slow_down=1.0)) as address,
        pytest.MonkeyPatch.context() as patched,
    ):
        patched.setenv("AWS_ENDPOINT_URL", address)
        bucket = Bucket(f"s3://{BUCKET}/{prefix}", Patience(request=1, total=1, lease=1))
        with pytest.raises(BusyError, match=r"x cannot be read now: 503 SlowDown, \d+ tries in"):
            bucket.read("x")
        with pytest.raises(BusyError, match="cannot be locked now"), bucket.hold("lock"):
            pass


def test_refusals_are_one_line(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    none = Bucket("s3://no-such-bucket/x")
    attempts: list[Callable[[], Any]] = [
        lambda: none.read("a"),
        lambda: none.write("a", b""),
        lambda: none.create("a", b""),
        none.names,
        lambda: none.move("a", "b"),
        lambda: none.hold("lock").__enter__(),
    ]
    for attempt in attempts:
        with pytest.raises(InputError, match="no such bucket") as told:
            attempt()
        assert "\n" not in str(told.value)
    for url, why in {
        "s3://": "s3://BUCKET/PREFIX",
        "s3://key:secret@bucket/x": "belong in the environment",
        "s3://bucket/a//b": "no empty part",
        "s3://bucket/../b": "no empty part",
        "ftp://bucket/x": "no kind of storage",
    }.items():
        with pytest.raises(InputError, match=why) as told:
            open_place(url)
        assert "secret" not in str(told.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://192.0.2.1:9000")
    with pytest.raises(InputError, match="plain text to another machine"):
        open_place(f"s3://{BUCKET}/{prefix}")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    open_place(f"s3://{BUCKET}/{prefix}")
    monkeypatch.setenv("SKYTALLY_BUCKET_LEASE_SECONDS", "soon")
    with pytest.raises(InputError, match="LEASE_SECONDS=soon"):
        open_place(f"s3://{BUCKET}/{prefix}")


def test_wrong_credentials(endpoint: str, prefix: str) -> None:
    bucket = Bucket(f"s3://{BUCKET}/{prefix}")
    with credentials_checked(endpoint):
        for attempt in (lambda: bucket.read("x"), lambda: bucket.write("x", b""), bucket.names):
            with pytest.raises(InputError, match="403 InvalidAccessKeyId") as told:
                attempt()
            assert "\n" not in str(told.value)
            assert "testing" not in str(told.value)


def test_a_listing_goes_on_where_it_broke(
    endpoint: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of 50 names, half of them refused: a listing begun anew would hardly ever end."""
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "50")
    names = [f"receipts/{i:03}.json" for i in range(500)]
    s3 = client(endpoint)
    for name in names:
        s3.put_object(Bucket=BUCKET, Key=f"{prefix}/{name}", Body=b"")
    faults = Faults(seed=1, slow_down=0.5)
    with fault_proxy(endpoint, faults) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        assert Bucket(f"s3://{BUCKET}/{prefix}", QUICK).names() == names
    assert 10 <= faults.done["requests"] - faults.done["faults"] <= 12
    assert faults.done["faults"] >= 5


# ---------------------------------------------------------------------------- leases


def test_the_lock_of_a_dead_holder_is_taken_over_by_one(prefix: str) -> None:
    quick = Patience(request=1, total=5, lease=3)
    dead = Lease(f"s3://{BUCKET}/{prefix}", "lock", quick)
    dead.acquire()
    dead._ended.set()  # gives no sign any more, as if killed
    dead._renewer.join()
    won: list[Lease] = []
    busy: list[BusyError] = []

    def want() -> None:
        lease = Lease(f"s3://{BUCKET}/{prefix}", "lock", quick)
        try:
            lease.acquire()
        except BusyError as error:
            busy.append(error)
        else:
            won.append(lease)

    threads = [threading.Thread(target=want) for _ in range(5)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started >= 3
    assert (len(won), len(busy)) == (1, 4)
    won[0].check()
    with pytest.raises(BusyError, match="was lost"):
        dead.check()
    dead.release()  # must not free the lock of the one who took it
    with pytest.raises(BusyError, match="another process"):
        Lease(f"s3://{BUCKET}/{prefix}", "lock", quick).acquire()
    won[0].release()


def test_a_renewal_that_comes_late_does_not_lose_the_lock(endpoint: str, prefix: str) -> None:
    """A sign that was given up for lost lands after all: its holder goes on from it."""
    with Bucket(f"s3://{BUCKET}/{prefix}", Patience(lease=3)).hold("lock") as lock:
        s3 = client(endpoint)
        sign = json.loads(objects(endpoint, prefix)["lock"])
        late = json.dumps(sign | {"time": "2000-01-01T00:00:00"}).encode()
        s3.put_object(Bucket=BUCKET, Key=f"{prefix}/lock", Body=late)
        until = time.monotonic() + 30
        while objects(endpoint, prefix)["lock"] == late:
            assert time.monotonic() < until
        lock.check()
        assert json.loads(objects(endpoint, prefix)["lock"])["holder"] == sign["holder"]
    assert json.loads(objects(endpoint, prefix)["lock"])["released"]


def test_a_lost_lock_is_noticed(endpoint: str, prefix: str) -> None:
    with Bucket(f"s3://{BUCKET}/{prefix}", Patience(lease=3)).hold("lock") as lock:
        lock.check()
        client(endpoint).put_object(Bucket=BUCKET, Key=f"{prefix}/lock", Body=b"{}")
        _until_lost(lock)
    assert objects(endpoint, prefix) == {"lock": b"{}"}


def test_a_lock_that_cannot_be_renewed_is_lost_before_others_may_take_it(
    endpoint: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = Faults(slow_down=1.0, limit=0)
    with fault_proxy(endpoint, faults) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        started = time.monotonic()
        with Bucket(f"s3://{BUCKET}/{prefix}", Patience(lease=3)).hold("lock") as lock:
            lock.check()
            faults.limit = 1_000_000
            _until_lost(lock)
            assert time.monotonic() - started < 3


def test_a_lock_survives_lost_answers(
    endpoint: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = Faults(seed=5, reset_after=0.5)
    with fault_proxy(endpoint, faults) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        with Bucket(f"s3://{BUCKET}/{prefix}", Patience(lease=3)).hold("lock") as lock:
            until = time.monotonic() + 2
            while time.monotonic() < until:
                lock.check()
                threading.Event().wait(0.05)
    assert faults.done["faults"] >= 3
    assert json.loads(objects(endpoint, prefix)["lock"])["released"]


def test_a_store_without_conditions_is_refused(
    endpoint: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fault_proxy(endpoint, Faults(unconditional=True)) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        bucket = Bucket(f"s3://{BUCKET}/{prefix}", QUICK)
        with pytest.raises(SkytallyError, match="ignores If-None-Match"), bucket.hold("lock"):
            pass


def _until_lost(lock: Lock) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            lock.check()
        except BusyError:
            break
        threading.Event().wait(0.02)
    with pytest.raises(BusyError, match="was lost"):
        lock.check()


@pytest.mark.parametrize("address", ["nowhere", "ftp://127.0.0.1", "http://", "127.0.0.1:9000"])
def test_an_endpoint_that_is_no_address_is_refused(address, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    with pytest.raises(InputError, match="AWS_ENDPOINT_URL is no address"):
        open_place("s3://sky/catalog")


def test_a_busy_machine_ends_a_command_without_a_traceback(tmp_path):
    script = (
        "import time, sys; from pathlib import Path; import zarr; from zarr.core import sync\n"
        "from catalogs.storage.disk import Disk\n"
        "store = Disk(Path(sys.argv[1])).zarr(read_only=False)\n"
        "zarr.create_array(store, name='a', data=__import__('numpy').zeros(3))\n"
        "sync.loop[0].call_soon_threadsafe(time.sleep, 1)\n"  # longer than zarr waits
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
