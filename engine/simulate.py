"""Simulating a sky on Dask workers: the same store as in one process, sooner."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from catalogs.progress import Reporter
from catalogs.synthetic.parts import Job
from catalogs.synthetic.simulate import Simulated, SimulationSettings, one_after_another
from catalogs.synthetic.simulate import simulate as run
from engine.clusters.spec import read_cluster


def simulate(
    to: Path,
    settings: SimulationSettings,
    reporter: Reporter | None = None,
    cluster: str = "local",
    *,
    insecure: bool = False,
) -> Simulated:
    """Write the survey store of a simulated sky, unless it is there already.

    Parameters
    ----------
    to : Path
        The store, ``NAME.zarr``, in a folder that all workers reach under this path.
    settings : SimulationSettings
        ``workers`` are the processes of the local cluster; 1 is this process, without Dask.
    reporter : Reporter, optional
    cluster : str
        ``local``, a scheduler's address, or a TOML file; see
        :func:`engine.clusters.spec.read_cluster`.
    insecure : bool
        A cluster that talks in plain text to other machines is wanted.

    Raises
    ------
    InputError, BusyError, SkytallyError
        See :func:`catalogs.synthetic.simulate.simulate` and
        :func:`engine.clusters.crew.connect`.
    """
    read_cluster(cluster, insecure=insecure)
    to = Path(to).absolute()
    with ExitStack() as stack:
        crews: list[Any] = []

        def hand(task: Callable[..., int], job: Job, items: Sequence[Any]) -> Iterator[int]:
            if cluster == "local" and min(settings.workers, len(items)) <= 1:
                yield from one_after_another(task, job, items)
                return
            if not crews:  # only now: there may be nothing to do
                from engine.clusters.crew import connect

                crew = connect(cluster, settings.workers, insecure=insecure)
                crews.append(stack.enter_context(crew))
            yield from crews[0].run(task, task, job, items)

        return run(to, settings, reporter, hand)
