"""Ordered work on an executor with a bounded number of items under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def bounded_map(
    executor: Executor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """Yield ``function(item)`` in order, never more than ``ahead`` items under way.

    ``Executor.map`` submits everything at once and keeps every result that is not consumed yet;
    a survey's images would not fit in memory.
    """
    under_way: deque[Future[Result]] = deque()
    for item in items:
        under_way.append(executor.submit(function, item))
        if len(under_way) >= ahead:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()
