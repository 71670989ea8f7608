"""Work on local workers that die, hang and disappear: all is done, or a line says why not."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import crew_tasks as tasks
import pytest

from catalogs.errors import BusyError
from engine.clusters.crew import connect


def workers_of(crew) -> list[int]:
    return list(crew.client.run(os.getpid).values())


def kinds(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text().split()[1] for p in folder.iterdir()}


def holders(folder: Path) -> set[int]:
    """Processes that began an item."""
    return {int(path.suffixes[0][1:]) for path in folder.glob("*.begun")}


def test_results_of_all_items_with_what_is_shared_sent_once():
    with connect("local", 2) as crew:
        shared = os.urandom(2_000_000)
        got = crew.run(tasks.size_of, tasks.size_of, shared, range(300))
        assert sorted(got) == [2_000_000 + i for i in range(300)]


def test_an_item_whose_worker_died_is_done_carefully_at_the_first_death(tmp_path):
    items = [f"item{i}" for i in range(20)] + ["killer"]
    with connect("local", 2) as crew:
        done = list(crew.run(tasks.killed, tasks.done_carefully, str(tmp_path), items))
    assert sorted(done) == sorted(items)
    found = kinds(tmp_path)
    assert found["killer"] == "careful"
    # What was on the worker that died comes back with it, and no more.
    assert sum(kind == "careful" for kind in found.values()) <= 4


def test_workers_leave_interrupts_to_the_driver(tmp_path):
    """Those too that take the place of others; else each prints its own traceback at Ctrl-C."""
    with connect("local", 2) as crew:
        before = set(workers_of(crew))
        list(crew.run(tasks.killed, tasks.done_carefully, str(tmp_path), ["killer"]))
        crew.client.wait_for_workers(2, timeout=60)
        after = set(workers_of(crew))
        assert after != before
        for pid in after:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            (blocked,) = (line.split()[1] for line in lines if line.startswith("SigBlk"))
            assert int(blocked, 16) & 1 << (signal.SIGINT - 1)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_an_item_that_kills_carefully_too_is_named(tmp_path):
    with (
        connect("local", 1) as crew,
        pytest.raises(BusyError, match="3 times on pixel killer") as raised,
    ):
        list(crew.run(tasks.killed, tasks.killed_always, str(tmp_path), ["killer"]))
    assert raised.value.exit_status == 75


@pytest.mark.parametrize("stops", [1, 2])
def test_workers_that_are_stopped_become_deaths(tmp_path, stops):
    """Also all of them: nothing of theirs can end them."""
    items = ["a", "b", *(f"stop{i}" for i in range(stops))]
    with connect("local", stops, silent_seconds=5) as crew:
        done = list(crew.run(tasks.stopped, tasks.done_carefully, str(tmp_path), items))
    assert sorted(done) == sorted(items)
    assert {kinds(tmp_path)[f"stop{i}"] for i in range(stops)} == {"careful"}


def test_a_hanging_item_becomes_a_death(tmp_path):
    with connect("local", 2) as crew:
        items = ["a", "hang", "b"]
        done = list(crew.run(tasks.hang, tasks.done_carefully, str(tmp_path), items))
    assert sorted(done) == sorted(items)
    assert kinds(tmp_path)["hang"] == "careful"


def test_ticks_come_while_an_item_is_under_way():
    heard = []
    with connect("local", 1) as crew:
        run = crew.run(
            tasks.ticking, tasks.ticking, None, ["x"], on_tick=lambda *tick: heard.append(tick)
        )
        assert list(run) == ["x"]
    assert 2 <= len(heard) < 39  # of 39 that the task made
    assert all(name == "x" and bad == 1 for name, _, bad in heard)
    assert [rows for _, rows, _ in heard] == sorted(rows for _, rows, _ in heard)


def test_an_error_of_a_task_is_raised_and_the_workers_can_go_on():
    with connect("local", 1) as crew:
        with pytest.raises(TypeError):
            list(crew.run(tasks.size_of, tasks.size_of, None, [1]))
        assert list(crew.run(tasks.negligible, tasks.negligible, None, [1])) == [1]


@pytest.mark.chaos
def test_both_workers_killed_again_and_again_end_nothing(tmp_path):
    """Also while they start, when Dask's nannies do not bring them back."""
    items = [f"item{i}" for i in range(6)]
    with connect("local", 2, respawn_seconds=3) as crew:
        run = crew.run(tasks.wait_for_file, tasks.wait_for_file, str(tmp_path), items)
        finished = threading.Event()

        def kill_twice() -> None:
            killed: set[int] = set()
            for _ in range(2):
                while len(begun := holders(tmp_path) - killed) < 2:
                    if finished.wait(0.02):
                        return
                for pid in begun:
                    os.kill(pid, signal.SIGKILL)
                killed |= begun
            (tmp_path / "go").touch()

        killer = threading.Thread(target=kill_twice)
        killer.start()
        try:
            done = list(run)
        finally:
            finished.set()
            killer.join()
    assert sorted(done) == items


def dismiss_workers(crew, finished: threading.Event, times: int) -> int:
    """Take all workers away for good, as often as they are there; return how often."""
    done = 0
    while done < times and not finished.wait(0.05):
        client = crew.client
        # Without a limit, a call to a client that is closed meanwhile may wait for ever.
        ask = partial(client.sync, callback_timeout=5)
        try:
            there = list(ask(client.scheduler.identity)["workers"])
            if there:
                ask(client.scheduler.retire_workers, workers=there)
                done += 1
        except Exception:  # noqa: BLE001  (the cluster is being built again)
            continue
    return done


@pytest.mark.chaos
@pytest.mark.parametrize(("times", "ends_well"), [(1, True), (1000, False)])
def test_workers_that_do_not_come_back_are_started_anew_but_not_for_ever(
    tmp_path, times, ends_well
):
    finished = threading.Event()
    with connect("local", 1, respawn_seconds=1) as crew, ThreadPoolExecutor(1) as thread:
        dismissed = thread.submit(dismiss_workers, crew, finished, times)
        dismissed.add_done_callback(lambda _: (tmp_path / "go").touch())
        run = crew.run(tasks.wait_for_file, tasks.wait_for_file, str(tmp_path), ["a", "b"])
        try:
            if ends_well:
                assert sorted(run) == ["a", "b"]
                assert crew.rebuilt == 1
            else:
                with pytest.raises(BusyError, match="run the same command again"):
                    list(run)
        finally:
            finished.set()
        assert dismissed.result() >= 1
