"""A process may be killed, and a machine may stop, at any operation on any file."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos import shim
from chaos.checks import Files, differences, false_receipts, files_of
from chaos.crash import crash_states
from chaos.drive import drive
from chaos.forks import ROOT, Forks
from chaos.little import two_nights
from chaos.shim import Operation, Shim
from surveys import brightness_bundle

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(sys.platform != "linux", reason="preloads a library of Linux calls"),
]


NOTES = ("/run/timings", "/run/progress.json")


class Bench:
    """Two nights, a network, what an uninterrupted run gives, and processes to kill."""

    def __init__(self, folder: Path, library: Path, forks: Forks) -> None:
        self.folder, self.library, self.forks = folder, library, forks
        self.nights = two_nights(folder)
        self.model = brightness_bundle(folder / "brightness.bundle").path
        self.clean = folder / "clean" / "catalog"
        drive(self.nights[1], self.model, self.clean)

    def new(self, name: str) -> Path:
        """Return where the catalog ``name`` may be made."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / name).mkdir()
        return self.folder / name / "catalog"

    def recorded(self, broken: str | None = None) -> tuple[list[Operation], Path]:
        """Annotate both nights and return all that was done to the files."""
        catalog = self.new("recorded")
        seen = Shim(self.library, catalog, self.folder / "notes")
        ended = self.forks.run(self.nights, self.model, catalog, seen.environment(), broken)
        assert broken or ended.status == 0, ended.said
        return seen.operations(), catalog

    def after(self, do: str, at: int, broken: str | None = None) -> tuple[int, Path]:
        """Annotate both nights, killed at an operation; return how that ended, and the catalog."""
        catalog = self.new("killed")
        seen = Shim(self.library, catalog, self.folder / "notes")
        ended = self.forks.run(
            self.nights, self.model, catalog, seen.environment(do=do, at=at), broken
        )
        return ended.status, catalog

    def finish(self, catalog: Path, broken: str | None = None) -> list[str]:
        """Annotate again, as far as is missing; return what is wrong then."""
        if broken:
            ended = self.forks.run(self.nights[1:], self.model, catalog, broken=broken)
            if ended.status:
                return [ended.said]
        else:
            drive(self.nights[1], self.model, catalog)
        return differences(catalog, self.clean) + false_receipts(files_of(catalog))


@pytest.fixture(scope="module")
def bench(tmp_path_factory, in_memory) -> Iterator[Bench]:
    library = shim.library(tmp_path_factory)
    folder = in_memory("crash")
    with Forks(library, folder) as forks:
        yield Bench(folder, library, forks)


def put(files: Files, catalog: Path) -> None:
    for name, content in files.items():
        (catalog / name).parent.mkdir(parents=True, exist_ok=True)
        (catalog / name).write_bytes(content)


def weighty(operations: list[Operation]) -> list[Operation]:
    """Return the operations without those on notes, which nobody synchronises or depends on."""
    return [o for o in operations if not any(note in o.path for note in NOTES)]


def replayed(bench: Bench, broken: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """Yield what is wrong in every state that a crash may leave, then after finishing each."""
    operations, recorded = bench.recorded(broken)
    states = []
    for number, files in crash_states(weighty(operations), str(recorded)):
        states.append((number, files))
        yield number, false_receipts(files)
    for number, files in states:
        catalog = bench.new("replayed")
        put(files, catalog)
        yield number, bench.finish(catalog, broken)


def killed(bench: Bench, broken: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """Yield, for a kill at every operation, what is wrong then or after finishing."""
    operations, _ = bench.recorded(broken)
    for operation in (o for o in operations if o.result >= 0):  # what failed changed nothing
        status, catalog = bench.after("half", operation.number, broken)
        assert status == -9
        yield (
            operation.number,
            false_receipts(files_of(catalog)) + bench.finish(catalog, broken),
        )


def test_every_state_that_a_crash_may_leave_is_finished_to_the_same_bytes(bench):
    states = list(replayed(bench))
    assert [state for state in states if state[1]] == []
    assert len(states) > len(bench.recorded()[0])


@pytest.mark.parametrize("rubbish", [b"", b"\0\0\0\0", b'{"seen": 7, "ro'])
def test_notes_of_which_a_crash_left_rubbish_harm_nothing(rubbish, bench):
    catalog = bench.new("rubbish")
    shutil.copytree(bench.clean, catalog)
    notes = [*(catalog / "run/timings").iterdir(), catalog / "run/progress.json"]
    for note in notes:
        note.write_bytes(rubbish)
    next((catalog / "run/receipts").glob("0-7.*")).unlink()
    assert bench.finish(catalog) == []
    assert len(notes) > 2


@pytest.mark.parametrize(
    "broken",
    ["receipt_before_data", "rewritten_in_place", "short_file", "no_fsync", "no_rename",
     "trusts_files"],
)  # fmt: skip
def test_the_replay_finds_a_broken_committer(bench, broken):
    assert next(wrong for _, wrong in replayed(bench, broken) if wrong)


def test_a_kill_at_every_operation_is_finished_to_the_same_bytes(bench):
    kills = list(killed(bench))
    assert [kill for kill in kills if kill[1]] == []
    assert len(kills) > 80


@pytest.mark.parametrize("broken", ["no_rename", "trusts_files"])
def test_kills_find_a_broken_committer(bench, broken):
    assert next(wrong for _, wrong in killed(bench, broken) if wrong)


def crashed_after_kill(bench: Bench, broken: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """Yield what a machine's crash may leave of a catalog while a killed run is resumed.

    Killed is it between the moment at which a rewritten pixel's new file waits and that at which
    the old receipt is gone.
    """
    operations, _ = bench.recorded(broken)
    waits = next(o.number for o in operations if o.other.endswith("run/next/0-0.parquet"))
    gone = max(o.number for o in operations if o.path.endswith("run/receipts/0-0.00000.json"))
    for at in range(waits, gone + 1):
        catalog = bench.new("twice")
        seen = Shim(bench.library, catalog, bench.folder / "notes")
        for nights, environment, status in (
            (bench.nights, seen.environment(do="before", at=at), -9),
            (bench.nights[1:], seen.environment(), 0),
        ):
            ended = bench.forks.run(nights, bench.model, catalog, environment, broken)
            assert ended.status == status, ended.said
        for number, files in crash_states(weighty(seen.operations()), str(catalog)):
            if number > at:
                yield at, false_receipts(files)


def test_a_crash_while_a_killed_run_is_resumed_makes_no_receipt_false(bench):
    states = list(crashed_after_kill(bench))
    assert [state for state in states if state[1]] == []
    assert len({at for at, _ in states}) > 10


def test_a_hasty_recovery_is_found(bench):
    assert next(wrong for _, wrong in crashed_after_kill(bench, "hasty_recovery") if wrong)


CALLS = "creat,open,openat,write,pwrite64,writev,pwritev,truncate,ftruncate,fsync,fdatasync,rename,"
CALLS += "renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,mkdir,mkdirat,fallocate,sendfile,"
CALLS += "copy_file_range,symlink,symlinkat,msync"


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace, the oracle")
def test_the_library_sees_what_strace_sees(bench):
    """Same calls on the same files in the same order, whoever makes them."""
    catalog = bench.new("traced")
    seen = Shim(bench.library, catalog, bench.folder / "notes")
    code = "import sys; from pathlib import Path; from chaos.drive import drive;"
    code += "drive(*map(Path, sys.argv[1:]))"
    notes = bench.folder / "strace"
    strace = ["strace", "-f", "-y", "-qq", "-s", "0", "-e", f"trace={CALLS}", "-o", notes]
    run = subprocess.run(
        [*strace, sys.executable, "-c", code, bench.nights[1], bench.model, catalog],
        env=seen.started() | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    if "PTRACE" in run.stderr:
        pytest.skip("strace may not trace here")
    assert run.returncode == 0, run.stderr
    ours = [(o.kind, _plain(o.path)) for o in seen.operations()]
    theirs = [call for line in notes.read_text().splitlines() for call in _traced(line, catalog)]
    assert len(ours) > 50
    assert ours == theirs


KINDS = {"fsync": "sync", "fdatasync": "sync", "rmdir": "unlink"}


def _traced(line: str, catalog: Path) -> Iterator[tuple[str, str]]:
    """Return kind and path of a line of strace, if it changes something in the catalog."""
    call, _, rest = line.split(None, 1)[1].partition("(")
    paths = re.findall(rf'[<"]({catalog}[^">]*)[">]', rest)
    if not paths or call.startswith(("+++", "---")):
        return
    kind = re.sub(r"^[pf]?(write|truncate|rename|link|unlink|mkdir|open|fsync).*", r"\1", call)
    if kind == "open":
        if not re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", rest):
            return
        kind = "create" if "O_EXCL" in rest or "O_CREAT" in rest else kind
    yield KINDS.get(kind, kind), _plain(paths[0])


def _plain(path: str) -> str:
    """Return a path without its random part."""
    return re.sub(r"\.[0-9a-f]{12}\.partial", ".partial", path)
