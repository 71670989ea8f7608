"""Work handed out to workers that come, go and die: nothing is lost, or waited for without end."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

from dask.distributed import Client, Future, WorkerPlugin, get_worker
from distributed import KilledWorker

from catalogs.errors import BusyError, InputError
from engine.clusters.deploy import Deployment, deploy
from engine.clusters.spec import read_cluster

DEATHS_ALLOWED = 3  # of one item, done carefully
REBUILDS_ALLOWED = 3  # without anything done in between
RESPAWN_SECONDS = 30.0  # for a worker of this machine to be back
SILENT_SECONDS = 330.0  # for a worker of this machine to give a sign of life
TICK_SECONDS = 1.0
LOOK_SECONDS = 1.0  # between two looks at the cluster
SILENCE_SECONDS = 30.0  # for a scheduler to answer
GATHER_SECONDS = 30.0  # for a result to come from its worker

Tick = Callable[[int, int], None]
OnTick = Callable[[str, int, int], None]
Item = TypeVar("Item")
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)
Item_contra = TypeVar("Item_contra", contravariant=True)


class Task(Protocol[Item_contra, Result_co]):
    """What workers call: ``task(shared, item, tick=tick)``, a module's function."""

    def __call__(self, shared: Any, item: Item_contra, /, tick: Tick | None = None) -> Result_co:  # noqa: ANN401
        """Do an item, and call ``tick(rows done, bad ones)`` often on the way."""


@contextmanager
def connect(
    where: str,
    workers: int = 1,
    *,
    insecure: bool = False,
    respawn_seconds: float = RESPAWN_SECONDS,
    silent_seconds: float = SILENT_SECONDS,
) -> Iterator[Crew]:
    """Give the workers of a cluster, and take down what was started for it.

    Parameters
    ----------
    where : str
        See :func:`engine.clusters.spec.read_cluster`.
    workers : int
        Processes of the local cluster.
    insecure : bool
        Plain text to other machines is wanted.
    respawn_seconds : float
        Workers of this machine that stay away for so long are started anew.
    silent_seconds : float
        Workers of this machine that give no sign of life for so long are killed.

    Raises
    ------
    InputError
        The cluster cannot be had, or is plain text to another machine.
    BusyError
        The scheduler does not answer.
    """
    cluster = read_cluster(where, insecure=insecure)
    start = partial(deploy, cluster, workers, insecure=insecure, silent_seconds=silent_seconds)
    with Crew(start, respawn_seconds) as crew:
        yield crew


class Crew:
    """The workers of a cluster; made by `connect`.

    Attributes
    ----------
    rebuilt : int
        How often workers of this machine had to be started anew.
    """

    def __init__(
        self,
        start: Callable[[], AbstractContextManager[Deployment]],
        respawn_seconds: float,
    ) -> None:
        self._start = start
        self._respawn_seconds = respawn_seconds
        self._stack = ExitStack()
        self._deployment: Deployment
        self.rebuilt = 0

    def __enter__(self) -> Crew:
        self._deployment = self._stack.enter_context(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def client(self) -> Client:
        """The connection to the scheduler; another one after the cluster was rebuilt."""
        return self._deployment.client

    def run(
        self,
        task: Task[Item, Result],
        careful: Task[Item, Result],
        shared: object,
        items: Iterable[Item],
        name: Callable[[Item], str] = str,
        on_tick: OnTick | None = None,
    ) -> Iterator[Result]:
        """Yield the result of every item as it is done, in any order, a bounded number under way.

        Parameters
        ----------
        task, careful : callable
            ``task(shared, item, tick=tick)``; an item whose worker died is done by ``careful``.
        shared : object
            Sent once to each worker, also to those that come later.
        items : iterable
            Small; taken as they are needed.
        name : callable
            An item's name, for messages and ticks.
        on_tick : callable, optional
            Hears ``(name, rows done, bad ones)`` about once a second of each item under way.

        Raises
        ------
        SkytallyError
            A task raised it, or workers died with one item again and again.
        BusyError
            The scheduler is gone, or has no worker; the same call may succeed later.
        """
        duty = _Duty(task, careful, shared)
        queue = _Queue(items, name)
        rebuilds = 0
        while queue.unfinished():
            try:
                with _Round(self._deployment, duty, queue, self._respawn_seconds) as round_:
                    for result in round_.results(on_tick):
                        rebuilds = 0
                        yield result
            except _WorkersLostError as lost:
                rebuilds += 1
                if rebuilds > REBUILDS_ALLOWED:
                    raise BusyError(
                        f"workers of this machine died {rebuilds} times and nothing was done in "
                        "between; see to memory, and run the same command again"
                    ) from lost
                self._stack.close()
                self._deployment = self._stack.enter_context(self._start())
                self.rebuilt += 1


class _WorkersLostError(Exception):
    """Workers of this machine died and do not come back."""


@dataclass(slots=True)
class _Errand(Generic[Item]):
    item: Item
    name: str
    careful: bool = False
    deaths: int = 0


class _Queue(Generic[Item]):
    """What is still to be sent, and what is under way by its future's key."""

    def __init__(self, items: Iterable[Item], name: Callable[[Item], str]) -> None:
        self._items = iter(items)
        self._name = name
        self._again: deque[_Errand[Item]] = deque()
        self.under_way: dict[Any, tuple[Future[Any], _Errand[Item]]] = {}

    def next(self) -> _Errand[Item] | None:
        if self._again:
            return self._again.popleft()
        for item in self._items:
            return _Errand(item, self._name(item))
        return None

    def put_back(self, errand: _Errand[Item]) -> None:
        self._again.append(errand)

    def unfinished(self) -> bool:
        """Say whether anything is left; all that was under way is to be sent again."""
        self._again.extend(errand for _, errand in self.under_way.values())
        self.under_way.clear()
        if not self._again and (errand := self.next()) is not None:
            self._again.append(errand)
        return bool(self._again)


class _Duty(WorkerPlugin):
    """What workers must know to do the items of one run; sent to each of them once."""

    def __init__(self, task: Task[Any, Any], careful: Task[Any, Any], shared: object) -> None:
        self.name = f"skytally-{uuid.uuid4().hex}"
        self.task = task
        self.careful = careful
        self.shared = shared


class _Ticker:
    """Tells the driver, about once a second, how far an item is."""

    def __init__(self, worker: Any, topic: str, name: str) -> None:  # noqa: ANN401
        self._tell = partial(worker.log_event, topic)
        self._name = name
        self._last = 0.0

    def __call__(self, rows: int, bad: int) -> None:
        now = time.monotonic()
        if now - self._last >= TICK_SECONDS:
            self._last = now
            self._tell([self._name, int(rows), int(bad)])


def _on_worker(duty_name: str, item: object, name: str, careful: bool) -> object:
    worker = get_worker()
    duty: Any = worker.plugins[duty_name]  # a _Duty
    function = duty.careful if careful else duty.task
    return function(duty.shared, item, tick=_Ticker(worker, duty.name, name))


class _Round(Generic[Item]):
    """Items handed out to one running cluster, until all are done or it fails."""

    def __init__(
        self, deployment: Deployment, duty: _Duty, queue: _Queue[Item], respawn_seconds: float
    ) -> None:
        self._client = deployment.client
        self._deployment = deployment
        self._duty = duty
        self._queue = queue
        self._respawn_seconds = respawn_seconds
        self._mail: SimpleQueue[Future[Any] | list[Any]] = SimpleQueue()
        self._slots = 1
        now = time.monotonic()
        self._looked = self._answered = self._complete = now

    def __enter__(self) -> _Round[Item]:
        try:
            self._client.register_plugin(self._duty, name=self._duty.name)
        except (OSError, TimeoutError) as error:
            raise self._gone() from error
        except Exception as error:  # a worker's own, of whatever kind it arrives
            raise InputError(
                f"a worker of {self._deployment.name} cannot load skytally ({error}); install "
                "the same release on every worker"
            ) from error
        self._client.subscribe_topic(self._duty.name, lambda event: self._mail.put(event[1]))
        return self

    def __exit__(self, *_: object) -> None:
        # The cluster may be gone: then there is nothing to take back.
        with suppress(Exception):
            if self._client.status == "running":
                self._client.unsubscribe_topic(self._duty.name)
                self._client.cancel([future for future, _ in self._queue.under_way.values()])
                self._client.unregister_worker_plugin(self._duty.name)

    def results(self, on_tick: OnTick | None) -> Iterator[Any]:
        """Yield results until all items are done."""
        self._look()
        while self._fill():
            messages = self._messages()
            if not messages or time.monotonic() - self._looked > LOOK_SECONDS:
                self._look()
            for message in messages:
                if not isinstance(message, Future) and on_tick is not None:
                    on_tick(*message)
            yield from self._finish([m for m in messages if isinstance(m, Future)])

    def _messages(self) -> list[Future[Any] | list[Any]]:
        """Wait a moment for ticks and futures that are done, and return all that there are."""
        found: list[Future[Any] | list[Any]] = []
        with suppress(Empty):
            found.append(self._mail.get(timeout=LOOK_SECONDS))
            while True:
                found.append(self._mail.get_nowait())
        return found

    def _fill(self) -> bool:
        """Send as many items as workers can take; False when none is left."""
        under_way = self._queue.under_way
        while len(under_way) < self._slots and (errand := self._queue.next()) is not None:
            try:
                future = self._client.submit(
                    _on_worker,
                    self._duty.name,
                    errand.item,
                    errand.name,
                    errand.careful,
                    # Dask keeps what stands before the dash for ever: not the item's name.
                    key=f"item-{uuid.uuid4().hex}",
                    pure=False,
                )
            except (OSError, RuntimeError) as error:  # closed between two looks
                self._queue.put_back(errand)
                raise self._gone() from error
            under_way[future.key] = (future, errand)
            future.add_done_callback(self._mail.put)
        return bool(under_way)

    def _finish(self, futures: list[Future[Any]]) -> list[Any]:
        """Return results; what has none is put back, or its error is raised."""
        if any(future.status == "cancelled" for future in futures):
            raise self._gone()
        done = [future for future in futures if future.status == "finished"]
        results = self._gather(done) if done else []
        if results is None:  # a worker died with a result in hand: which one?
            alone = [self._gather([future]) for future in done]
            results = [result for found in alone if found is not None for result in found]
            done = [future for future, found in zip(done, alone, strict=True) if found is not None]
        for future in futures:
            _, errand = self._queue.under_way[future.key]
            if future not in done:
                if future.status == "error":
                    self._mourn(future, errand)
                self._queue.put_back(errand)
            del self._queue.under_way[future.key]
            future.release()  # or its worker would keep it, and do it again when lost
        return results

    def _gather(self, futures: list[Future[Any]]) -> list[Any] | None:
        """Return results; None when one of them is lost, or is to be computed again."""

        async def gather() -> Any:  # noqa: ANN401
            return await self._client.gather(futures, asynchronous=True)

        try:
            return list(self._client.sync(gather, callback_timeout=GATHER_SECONDS))
        except (KilledWorker, TimeoutError):
            return None
        except (CancelledError, OSError) as error:  # the scheduler went away meanwhile
            raise self._gone() from error

    def _mourn(self, future: Future[Any], errand: _Errand[Item]) -> None:
        """Have an item whose worker died done carefully; raise when that does not help.

        An error of the item itself is raised, too.
        """
        try:
            future.result(timeout=GATHER_SECONDS)
        except KilledWorker as error:
            death = error
        else:
            return
        errand.deaths += death.allowed_failures + 1 if errand.careful else 0
        errand.careful = True
        if errand.deaths >= DEATHS_ALLOWED:
            raise BusyError(
                f"workers died {errand.deaths} times on pixel {errand.name}, though its cutouts "
                "were tried apart; see memory and the workers' logs, and run the same command again"
            ) from death

    def _look(self) -> None:
        """See that the scheduler answers and has its workers.

        Raises
        ------
        BusyError
            It does not, or has none.
        _WorkersLostError
            Workers of this machine do not come back.
        """
        self._looked = now = time.monotonic()
        if self._client.status != "running":
            raise self._gone()
        scheduler: Any = self._client.scheduler
        try:
            facts = self._client.sync(
                scheduler.identity, n_workers=0, callback_timeout=SILENCE_SECONDS
            )
        except (OSError, TimeoutError) as error:
            raise self._gone() from error
        workers, threads = facts["n_workers"], facts["total_threads"]
        # One more a worker than it has threads, so that none waits for us.
        self._slots = max(threads + workers, 1)
        where = self._deployment
        if workers >= (1 if where.expected is None else where.expected):
            self._complete = time.monotonic()
        elif where.expected is not None:
            if now - self._complete > self._respawn_seconds:
                raise _WorkersLostError
        elif now - self._complete > where.wait_seconds:
            raise BusyError(
                f"{where.name} has had no worker for {where.wait_seconds:.0f} s; start some, and "
                "run the same command again"
            )

    def _gone(self) -> BusyError | _WorkersLostError:
        if self._deployment.expected is not None:
            return _WorkersLostError()
        return BusyError(
            f"{self._deployment.name} does not answer any more; what is done is kept: run the "
            "same command again"
        )
