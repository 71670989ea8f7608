"""Real schedulers and workers, over TLS: workers come, go and die, the catalog is the same."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from surveys import tree

from catalogs.errors import BusyError, InputError
from engine.run import AnnotateSettings, annotate

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_SKYTALLY = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("catalogs", "engine", "export", "skytally"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""
PATIENCE = 120.0  # of the test, for a process to do what it must


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.02)


@dataclass
class Credentials:
    """A certificate for this machine, signed by itself."""

    cert: Path
    key: Path

    @property
    def flags(self) -> list[str]:
        return [f"--tls-ca-file={self.cert}", f"--tls-cert={self.cert}", f"--tls-key={self.key}"]

    def describe(self, address: str, to: Path, extra: str = "") -> str:
        to.write_text(
            f'address = "{address}"\n{extra}\n[tls]\n'
            f'ca = "{self.cert}"\ncert = "{self.cert}"\nkey = "{self.key}"\n'
        )
        return str(to)


@pytest.fixture(scope="module")
def credentials(tmp_path_factory) -> Credentials:
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "skytally test")])
    now = datetime.datetime.now(datetime.UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(here, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, no_password = serialization.Encoding.PEM, serialization.NoEncryption()
    made = Credentials(folder / "cert.pem", folder / "key.pem")
    made.cert.write_bytes(certificate.public_bytes(pem))
    made.key.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, no_password))
    return made


class Site:
    """A scheduler and its workers, as processes; ended at the end."""

    def __init__(self, stack: ExitStack, folder: Path, credentials: Credentials) -> None:
        self.stack = stack
        self.folder = folder
        self.credentials = credentials
        self.gate = folder / "gate"
        self.gate.mkdir()
        file = folder / "scheduler.json"
        self.scheduler = self._start(
            ["dask_scheduler", "--host=tls://127.0.0.1", "--port=0", f"--scheduler-file={file}"],
            dashboard=["--no-dashboard", "--dashboard-address=127.0.0.1:0"],
        )
        until(lambda: file.exists() and file.read_text().rstrip().endswith("}"))
        self.address = json.loads(file.read_text())["address"]
        assert self.address.startswith("tls://127.0.0.1:")
        self.description = credentials.describe(self.address, folder / "cluster.toml")

    def worker(self) -> subprocess.Popen[bytes]:
        options = ["--nthreads=2", "--no-nanny", f"--preload={ROOT / 'tests/gate.py'}"]
        options += [f"--local-directory={self.folder}", "--host=127.0.0.1"]
        return self._start(["dask_worker", self.address, *options], dashboard=["--no-dashboard"])

    def stranger(self, folder: Path) -> None:
        """Start a worker that has no skytally, and wait until the scheduler knows it."""
        (folder / "sitecustomize.py").write_text(WITHOUT_SKYTALLY)
        options = ["--nthreads=1", "--no-nanny", f"--local-directory={folder}", "--host=127.0.0.1"]
        self._start(["dask_worker", self.address, *options], ["--no-dashboard"], folder)
        until(lambda: "Registered to" in (self.folder / "dask_worker.log").read_text())

    def _start(
        self, command: list[str], dashboard: list[str], path: Path = ROOT
    ) -> subprocess.Popen[bytes]:
        program, *arguments = command
        log = self.stack.enter_context((self.folder / f"{program}.log").open("ab"))
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", f"distributed.cli.{program}"),
                *arguments,
                *dashboard,
                *self.credentials.flags,
            ],
            env=os.environ | {"GATE": str(self.gate), "PYTHONPATH": str(path)},
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        self.stack.callback(_end, process)
        return process

    def begun(self, worker: subprocess.Popen[bytes]) -> list[str]:
        return [p.name.split(".")[0] for p in self.gate.glob(f"*.{worker.pid}.begun")]

    def let(self, pixel: str | None = None) -> None:
        (self.gate / ("go" if pixel is None else f"{pixel}.go")).touch()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()


@pytest.fixture
def site(tmp_path, credentials) -> Iterator[Site]:
    with ExitStack() as stack:
        folder = tmp_path / "site"
        folder.mkdir()
        yield Site(stack, folder, credentials)


@pytest.fixture(scope="module")
def local(small_survey, brightness, tmp_path_factory) -> Path:
    to = tmp_path_factory.mktemp("local") / "catalog"
    annotate(small_survey, to, brightness.path, AnnotateSettings(workers=1))
    return to


def receipts(catalog: Path) -> int:
    return len(list((catalog / "run/receipts").glob("*.json")))


def timed(catalog: Path) -> set[int]:
    """Processes that annotated a pixel."""
    found = (json.loads(path.read_text()) for path in (catalog / "run/timings").rglob("*.json"))
    return {int(timings["worker"].rpartition(":")[2]) for timings in found}


@pytest.mark.chaos
def test_workers_come_and_go_and_die(site, small_survey, brightness, local, tmp_path):
    to = tmp_path / "catalog"
    settings = AnnotateSettings(cluster=site.description)
    first = site.worker()
    with ThreadPoolExecutor(1) as thread:
        try:
            run = thread.submit(annotate, small_survey, to, brightness.path, settings)
            until(lambda: site.begun(first) or run.done())
            site.let(site.begun(first)[0])
            until(lambda: receipts(to) or run.done())

            second = site.worker()
            until(lambda: site.begun(second) or run.done())
            first.terminate()
            third = site.worker()
            until(lambda: site.begun(third) or run.done())
            second.kill()
        finally:
            site.let()
        result = run.result()
    assert result.rows == result.annotated == 2000
    assert timed(to) >= {first.pid, third.pid}
    assert second.pid not in timed(to)
    assert tree(to) == tree(local)
    first.wait(PATIENCE)


@pytest.mark.chaos
def test_a_killed_scheduler_ends_the_run_in_a_line_and_another_cluster_goes_on(
    site, small_survey, brightness, local, tmp_path
):
    to = tmp_path / "catalog"
    worker = site.worker()
    arguments = ["annotate", small_survey, "--model", brightness.path, "--to", to]
    process = subprocess.Popen(
        [sys.executable, "-m", "skytally", *arguments, "--cluster", site.description],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: site.begun(worker) or process.poll() is not None)
        site.let(site.begun(worker)[0])
        until(lambda: receipts(to) or process.poll() is not None)
        site.scheduler.send_signal(signal.SIGKILL)
        _, errors = process.communicate(timeout=PATIENCE)
    finally:
        _end(process)
    said = [line for line in errors.splitlines() if not line.startswith("{")]
    assert process.returncode == BusyError.exit_status, errors
    assert len(said) == 1
    assert "does not answer any more" in said[0]
    assert receipts(to) >= 1

    site.let()
    result = annotate(small_survey, to, brightness.path, AnnotateSettings(workers=1))
    assert 0 < result.annotated < result.rows
    assert tree(to) == tree(local)


def test_a_cluster_class_is_started_for_the_run(small_survey, brightness, local, tmp_path):
    """Dask's own LocalCluster stands for jobqueue and Kubernetes: the same interface."""
    file = tmp_path / "cluster.toml"
    file.write_text(
        'class = "dask.distributed.LocalCluster"\nminimum = 1\nmaximum = 2\n[options]\n'
        "n_workers = 0\nthreads_per_worker = 2\nsecurity = true\n"
    )
    settings = AnnotateSettings(cluster=str(file))
    assert annotate(small_survey, tmp_path / "catalog", brightness.path, settings).annotated == 2000
    assert tree(tmp_path / "catalog") == tree(local)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('class = "dask_nowhere.Cluster"', "cannot be imported"),
        ('class = "pathlib.Path"', "is no Dask cluster"),
        ('class = "dask.distributed.LocalCluster"\n[options]\nflavour = 3', "does not start"),
    ],
)
def test_a_class_that_cannot_be_had(text, message, small_survey, brightness, tmp_path):
    file = tmp_path / "cluster.toml"
    head, _, options = text.partition("\n")
    file.write_text(f"{head}\nworkers = 1\n{options or '[options]'}\nsecurity = true\n")
    with pytest.raises(InputError, match=message):
        annotate(small_survey, tmp_path / "c", brightness.path, AnnotateSettings(cluster=str(file)))


def test_a_scheduler_that_is_not_there_or_has_no_workers(
    site, credentials, small_survey, brightness, tmp_path
):
    for address, message in (
        ("tls://127.0.0.1:1", "no Dask scheduler answers"),
        (site.address, "no worker for 1 s"),
    ):
        where = credentials.describe(address, tmp_path / "c.toml", "wait = 1")
        with pytest.raises(BusyError, match=message):
            annotate(small_survey, tmp_path / "c", brightness.path, AnnotateSettings(cluster=where))


def test_an_encrypted_scheduler_without_certificates_says_where_to_name_them(
    site, small_survey, brightness, tmp_path
):
    with pytest.raises(InputError, match=r"ca, cert and key under \[tls\]"):
        annotate(
            small_survey, tmp_path / "c", brightness.path, AnnotateSettings(cluster=site.address)
        )


def test_certificates_that_cannot_be_used_are_told_at_once(
    site, credentials, small_survey, brightness, tmp_path
):
    other = Credentials(tmp_path / "nowhere.pem", credentials.key)
    wrong = Credentials(credentials.cert, Path(__file__))
    for keys, message in ((other, "nowhere.pem.*is no file"), (wrong, "cannot be used")):
        where = keys.describe(site.address, tmp_path / "c.toml")
        with pytest.raises(InputError, match=message):
            annotate(small_survey, tmp_path / "c", brightness.path, AnnotateSettings(cluster=where))


def test_a_worker_without_skytally_is_told_in_a_line(site, small_survey, brightness, tmp_path):
    site.stranger(tmp_path)
    settings = AnnotateSettings(cluster=site.description)
    with pytest.raises(InputError, match=r"cannot load skytally .*No module named"):
        annotate(small_survey, tmp_path / "c", brightness.path, settings)


def workers_here() -> list[psutil.Process]:
    """Processes of the local cluster that this process runs."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if any("spawn_main" in word for word in child.cmdline()):
                found.append(child)
    return found


@pytest.mark.chaos
def test_all_workers_of_this_machine_killed_at_once_again_and_again(
    small_survey, brightness, local, tmp_path
):
    to = tmp_path / "catalog"
    killed = 0
    with ThreadPoolExecutor(1) as thread:
        settings = AnnotateSettings(workers=2)
        run = thread.submit(annotate, small_survey, to, brightness.path, settings)
        for _ in range(3):
            before = receipts(to)
            until(lambda seen=before: receipts(to) > seen or run.done())
            for worker in workers_here():
                with suppress(psutil.Error):
                    worker.kill()
                    killed += 1
        result = run.result()
    assert killed >= 2
    assert result.rows == 2000
    assert tree(to) == tree(local)
    assert not workers_here()
