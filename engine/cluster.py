"""Dask: where partitions are sent, and how their outcomes come back, in any order."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import urlsplit

import dask
from dask.distributed import Client, LocalCluster, as_completed
from distributed import KilledWorker

from catalogs.errors import BusyError, InputError, SkytallyError

Item = TypeVar("Item")
Result = TypeVar("Result")

TASKS_PER_WORKER = 3
NO_WORKERS_SECONDS = 60
# glibc gives large blocks back to the system at once and faults them in again at the next batch,
# which can halve the speed; Dask's own default (64 KiB) makes it worse.
WORKER_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": "268435456",
    "MALLOC_MMAP_THRESHOLD_": "268435456",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


@contextmanager
def connect(cluster: str, workers: int) -> Iterator[Client]:
    """Give a client of a cluster, and take down what was started for it.

    Parameters
    ----------
    cluster : str
        ``local`` starts processes on this machine, on the loopback device only; otherwise the
        address of a scheduler, ``tcp://…`` on this machine or ``tls://…``.
    workers : int
        Processes of a local cluster.

    Raises
    ------
    InputError
        The address has another form, or is plain text to another machine.
    BusyError
        The scheduler does not answer.
    """
    settings = {
        "distributed.scheduler.no-workers-timeout": f"{NO_WORKERS_SECONDS}s",
        "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
        "distributed.worker.daemon": True,
        "distributed.worker.preload": ["engine.preload"],
        "distributed.logging.distributed": "error",
        "distributed.comm.timeouts.connect": "30s",
    }
    with dask.config.set(settings):
        if cluster != "local":
            _check_address(cluster)
            try:
                client = Client(cluster, set_as_default=False)
            except (OSError, TimeoutError) as error:
                raise BusyError(f"no Dask scheduler answers at {cluster}: {error}") from error
            with client:
                try:
                    client.wait_for_workers(1, timeout=NO_WORKERS_SECONDS)
                except TimeoutError:
                    raise BusyError(
                        f"the scheduler at {cluster} has had no worker for "
                        f"{NO_WORKERS_SECONDS} s; start some, and run the command again"
                    ) from None
                yield client
            return
        with (
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                memory_limit=0,
                silence_logs=50,
            ) as local,
            Client(local, set_as_default=False) as client,
        ):
            yield client


def run_everywhere(
    client: Client, function: Callable[[Any, Item], Result], shared: object, items: Iterable[Item]
) -> Iterator[Result]:
    """Yield ``function(shared, item)`` for every item as it is done, a bounded number under way.

    Raises
    ------
    SkytallyError
        A worker raised it, or workers died with an item too often.
    """
    pending = iter(items)
    slots = TASKS_PER_WORKER * max(len(client.scheduler_info()["workers"]), 1)

    def submit(item: Item) -> Any:  # noqa: ANN401  (Dask has no types)
        return client.submit(function, shared, item, pure=False, retries=0)

    running = as_completed([submit(item) for item in islice(pending, slots)], loop=client.loop)
    for future in running:
        try:
            result = future.result()
        except KilledWorker as error:
            raise SkytallyError(
                f"workers died three times on one partition ({error.task}); "
                "see their logs, and run the same command again"
            ) from error
        for item in islice(pending, 1):
            running.add(submit(item))
        yield result


def _check_address(address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme not in ("tcp", "tls") or not parts.hostname:
        raise InputError(
            f"cluster {address!r} is neither 'local' nor an address such as tls://host:8786"
        )
    if parts.scheme == "tcp" and not _is_loopback(parts.hostname):
        raise InputError(
            f"cluster {address!r} is plain text to another machine; use tls://, "
            "or a tunnel to this machine"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
