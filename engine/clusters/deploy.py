"""From a cluster's description to a client of it; taken down with what was started for it."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
import resource
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from typing import Any, Literal
from urllib.parse import urlsplit

import dask
from dask.distributed import Client, LocalCluster
from distributed import Security
from distributed.comm.core import FatalCommClosedError, connect
from distributed.deploy.cluster import Cluster

from catalogs.errors import BusyError, InputError
from engine.clusters.spec import ClusterSpec, is_private

THREADS_PER_WORKER = 2  # while one pixel computes, another reads or writes
CONNECT_SECONDS = 30
CLOSE_SECONDS = 10
FILES, FILES_PER_WORKER = 32, 8  # that the driver has open, and more for each worker
# glibc gives large blocks back to the system at once and faults them in again at the next batch,
# which can halve the speed; Dask's own default (64 KiB) makes it worse.
WORKER_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": "268435456",
    "MALLOC_MMAP_THRESHOLD_": "268435456",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
# The first death of a worker brings its work back to us, who know better than to try it again as
# it was. Nothing queues behind work in hand, so that a death takes little else with it.
OURS = {
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
    "distributed.worker.daemon": True,
    # It looks at every thread's stack a hundred times a second, 4% of a worker, for nobody.
    "distributed.worker.profile.enabled": False,
    "distributed.logging.distributed": "error",
    "distributed.comm.timeouts.connect": f"{CONNECT_SECONDS}s",
}

# What goes wrong with the cluster is told in one line, by whoever meets it.
LOUD = ("distributed", "distributed.client", "tornado", "tornado.application", "asyncio")


@dataclass(frozen=True, slots=True)
class Deployment:
    """A running cluster.

    Attributes
    ----------
    client : Client
        The connection to its scheduler.
    name : str
        For messages.
    expected : int or None
        Workers that must be there, on this machine; None where others decide.
    wait_seconds : float
        Longest time without any worker [s].
    """

    client: Client
    name: str
    expected: int | None
    wait_seconds: float


@contextmanager
def deploy(
    cluster: Literal["local", "cuda"] | ClusterSpec,
    workers: int,
    *,
    insecure: bool = False,
    silent_seconds: float,
) -> Iterator[Deployment]:
    """Start or reach a cluster, give a client of it, and take down what was started.

    A worker of this machine that gives no sign of life for ``silent_seconds``, stopped by a signal
    or stuck, is killed and started anew within twice that time. Others' schedulers have a limit of
    their own (``distributed.scheduler.worker-ttl``).

    Raises
    ------
    InputError
        Its class cannot be had, or it turns out to listen in plain text on a network.
    BusyError
        The scheduler does not answer.
    """
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with dask.config.set(OURS), ExitStack() as stack:
        if isinstance(cluster, ClusterSpec) and cluster.address is not None:
            yield Deployment(
                stack.enter_context(_closing(_reach(cluster))),
                f"the scheduler at {cluster.address}",
                None,
                cluster.wait_seconds,
            )
            return
        if isinstance(cluster, ClusterSpec):
            started = _start_class(cluster, insecure=insecure)
            name, expected, wait = str(cluster.class_), None, cluster.wait_seconds
        else:
            alive = {"distributed.scheduler.worker-ttl": silent_seconds}
            with _interrupts_held(), dask.config.set(alive):
                started = _start_local(workers) if cluster == "local" else _start_cuda()
            expected = len(started.worker_spec)
            name, wait = "the local cluster", float(CONNECT_SECONDS)
        stack.callback(_close_quietly, partial(started.close, timeout=CLOSE_SECONDS))
        client = stack.enter_context(_closing(Client(started, set_as_default=False)))
        yield Deployment(client, name, expected, wait)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Leave Ctrl-C to the driver, for which a terminal sends it to all processes.

    Threads and processes that are started meanwhile, and those that they start, never get it;
    this one gets it at the end.
    """
    resource_tracker.ensure_running()  # in a thread that starts it, interrupts are let in again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_local(workers: int) -> Any:  # noqa: ANN401  (Dask has no types)
    # Without files to open, Dask hangs rather than fails.
    may, needed = resource.getrlimit(resource.RLIMIT_NOFILE)[0], FILES + FILES_PER_WORKER * workers
    if may < needed:
        raise BusyError(
            f"this process may open {may} files, {workers} workers take {needed}; raise the limit "
            "(ulimit -n), and run the same command again"
        )
    try:
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=THREADS_PER_WORKER,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            silence_logs=50,
        )
    except (OSError, RuntimeError) as error:
        raise BusyError(
            f"no worker starts on this machine: {' '.join(str(error).split())}; see to its memory "
            "and its limit of open files, and run the same command again"
        ) from error


def _start_cuda() -> Any:  # noqa: ANN401
    dask_cuda = importlib.import_module("dask_cuda")  # `place` saw that it and a card are there
    # One worker a card, each with its own CUDA_VISIBLE_DEVICES.
    return dask_cuda.LocalCUDACluster(
        threads_per_worker=THREADS_PER_WORKER,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        memory_limit=0,
        silence_logs=50,
    )


def _start_class(spec: ClusterSpec, *, insecure: bool) -> Any:  # noqa: ANN401
    module, _, name = str(spec.class_).rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"cluster class {spec.class_} cannot be imported ({error}); install its package"
        ) from None
    if not (isinstance(found, type) and issubclass(found, Cluster)):
        raise InputError(f"cluster class {spec.class_} is no Dask cluster")
    try:
        started = found(**_with_private_dashboard(found, spec.options))
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        raise InputError(f"cluster class {spec.class_} does not start: {error}") from error
    if not insecure and not is_private(started.scheduler_address):
        _close_quietly(partial(started.close, timeout=CLOSE_SECONDS))
        raise InputError(
            f"cluster class {spec.class_} listens in plain text at {started.scheduler_address}; "
            "put security = true under [options], or give --insecure"
        )
    if spec.workers is not None:
        started.scale(spec.workers)
    else:
        started.adapt(minimum=spec.minimum, maximum=spec.maximum)
    return started


def _with_private_dashboard(cluster: type, options: dict[str, Any]) -> dict[str, Any]:
    """Add to a class's options, where it has one for this, that the dashboard stays here."""
    known = inspect.signature(cluster).parameters
    private = {"dashboard_address": "127.0.0.1:0"}
    if "scheduler_options" in known:
        return options | {"scheduler_options": private | options.get("scheduler_options", {})}
    return private | options if "dashboard_address" in known else options


def _reach(spec: ClusterSpec) -> Client:
    security = _security(spec)
    wait = min(CONNECT_SECONDS, spec.wait_seconds)
    try:
        _knock(str(spec.address), security, wait)
        return Client(spec.address, security=security, set_as_default=False, timeout=wait)
    except (FatalCommClosedError, ValueError, RuntimeError) as error:
        raise InputError(
            f"cluster {spec.address}: no TLS connection: the scheduler has certificates that do "
            "not fit those of [tls], or talks plain text; name those that were made for it"
        ) from error
    except (OSError, TimeoutError) as error:
        said = str(error).strip() or "the connection broke"
        raise BusyError(
            f"no Dask scheduler answers at {spec.address}: {said}; see that it runs and talks "
            f"{urlsplit(str(spec.address)).scheme}://, and run the same command again"
        ) from error


def _knock(address: str, security: Security, wait: float) -> None:
    """Connect and hang up: a client that fails to leaves itself behind for a minute."""

    async def knock() -> None:
        arguments = security.get_connection_args("client")
        comm = await connect(address, timeout=wait, **arguments)
        await comm.close()

    with ThreadPoolExecutor(1) as thread:  # the caller may have a loop of its own
        thread.submit(asyncio.run, knock()).result()


def _security(spec: ClusterSpec) -> Security:
    """Return how to talk to a scheduler; a client with files that cannot be used would linger.

    Raises
    ------
    InputError
        A file is missing or not what it should be, or TLS is wanted and no files are named.
    """
    security = Security()  # Dask's own configuration may name files
    if spec.tls is not None:
        for file in (spec.tls.ca, spec.tls.cert, spec.tls.key):
            if not file.is_file():
                raise InputError(f"{file}, named under [tls], is no file; name PEM files there")
        security = Security(
            tls_ca_file=str(spec.tls.ca),
            tls_client_cert=str(spec.tls.cert),
            tls_client_key=str(spec.tls.key),
            require_encryption=True,
        )
    try:
        found = security.get_connection_args("client")
    except OSError as error:  # that of ssl, too
        raise InputError(
            f"cluster {spec.address}: its certificates cannot be used ({error}); name ca, cert "
            "and the cert's own key, PEM files, under [tls] of a TOML file"
        ) from error
    if str(spec.address).startswith("tls:") and found.get("ssl_context") is None:
        raise InputError(
            f"cluster {spec.address} takes certificates; name ca, cert and key under [tls] of a "
            "TOML file"
        )
    return security


@contextmanager
def _closing(client: Client) -> Iterator[Client]:
    try:
        yield client
    finally:
        _close_quietly(partial(client.close, timeout=CLOSE_SECONDS))


def _close_quietly(close: partial[None]) -> None:
    # Whatever ends badly here has ended: what is done lies in receipts, not in the cluster.
    with suppress(Exception):
        close()
