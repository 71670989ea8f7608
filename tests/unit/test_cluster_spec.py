"""What --cluster means, and what it refuses; all mistakes of a file at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalogs.errors import InputError
from engine.clusters.spec import ClusterSpec, read_cluster

SLURM = 'class = "dask_jobqueue.SLURMCluster"\n'


def written(folder: Path, text: str) -> str:
    path = folder / "cluster.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    "address",
    ["tls://cluster.example:8786", "tcp://127.0.0.1:8786", "tcp://[::1]:1", "tcp://localhost:1"],
)
def test_addresses_that_nobody_else_reads(address):
    found = read_cluster(address)
    assert isinstance(found, ClusterSpec)
    assert (found.address, found.wait_seconds) == (address, 60)


@pytest.mark.parametrize("address", ["tcp://192.0.2.1:8786", "tcp://cluster.example:8786"])
def test_plain_text_to_another_machine_is_refused_unless_asked_for(address, tmp_path):
    file = written(tmp_path, f'address = "{address}"')
    for where in (address, file):
        with pytest.raises(InputError, match=r"plain text.*--insecure"):
            read_cluster(where)
        found = read_cluster(where, insecure=True)
        assert isinstance(found, ClusterSpec)
        assert found.address == address


@pytest.mark.parametrize("where", ["", "somewhere", "http://x:1", "ucx://x:1", "slurm.yaml"])
def test_what_is_no_cluster_is_refused(where):
    with pytest.raises(InputError, match="neither local, cuda, an address"):
        read_cluster(where)


@pytest.mark.parametrize("where", ["tls://", "tls://host", "tcp://127.0.0.1", "tls://h:99999"])
def test_an_address_without_host_or_port_is_refused(where):
    with pytest.raises(InputError, match="is no address"):
        read_cluster(where)


def test_a_password_in_an_address_is_refused_and_not_repeated():
    with pytest.raises(InputError, match="no user or password") as refused:
        read_cluster("tcp://me:secret@127.0.0.1:8786")
    assert "secret" not in str(refused.value)


def test_a_class_with_its_options(tmp_path):
    text = SLURM + "minimum = 0\nmaximum = 16\n[options]\ncores = 8\nsecurity = true\n"
    found = read_cluster(written(tmp_path, text))
    assert isinstance(found, ClusterSpec)
    assert found.class_ == "dask_jobqueue.SLURMCluster"
    assert found.options == {"cores": 8, "security": True}
    assert (found.minimum, found.maximum, found.wait_seconds) == (0, 16, 600)


def test_files_of_a_connection_are_seen_from_the_description(tmp_path):
    text = 'address = "tls://h:1"\n[tls]\nca = "ca.pem"\ncert = "/etc/cert.pem"\nkey = "key.pem"\n'
    found = read_cluster(written(tmp_path, text))
    assert isinstance(found, ClusterSpec)
    assert found.tls is not None
    assert (found.tls.ca, found.tls.cert) == (tmp_path / "ca.pem", Path("/etc/cert.pem"))


def test_all_mistakes_are_named_at_once(tmp_path):
    text = SLURM + 'workers = 0\nworker = 3\nwait = "long"\n[tls]\nca = 1\n'
    with pytest.raises(InputError) as raised:
        read_cluster(written(tmp_path, text))
    for part in ("unknown 'worker'", "workers:", "wait:", "tls.ca:", "tls.cert:"):
        assert part in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("workers = 1", "give either class or address"),
        (SLURM + 'address = "tls://h:1"', "give either class or address"),
        ('address = "tls://h:1"\nworkers = 2', "workers belongs to a class"),
        ('address = "tcp://127.0.0.1:1"\n[tls]\nca="a"\ncert="b"\nkey="c"', "tls belongs to"),
        (SLURM, "give either workers, or minimum and maximum"),
        (SLURM + "workers = 1\nminimum = 1\nmaximum = 2", "give either workers"),
        (SLURM + "minimum = 1", "minimum and maximum go together"),
        (SLURM + "minimum = 3\nmaximum = 2", "minimum is more than maximum"),
        (SLURM + "workers = 1\n[tls]\nca='a'\ncert='b'\nkey='c'", "tls belongs to an address"),
        ("class = 'os; rm'\nworkers = 1", "class"),
        ("class =", "is not TOML"),
    ],
)
def test_files_that_cannot_be_used(text, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_cluster(written(tmp_path, text))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_cluster(str(tmp_path / "nowhere.toml"))


@pytest.mark.parametrize(
    "options",
    [{}, {"host": "127.0.0.1"}, {"host": "localhost"}, {"host": "0.0.0.0", "security": True}],
)
def test_local_classes_that_stay_here(options, tmp_path):
    assert _class(tmp_path, "dask.distributed.LocalCluster", options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dask_jobqueue.SLURMCluster", {}),
        ("dask_jobqueue.SLURMCluster", {"security": False}),
        ("dask.distributed.LocalCluster", {"host": "0.0.0.0"}),
        ("dask.distributed.LocalCluster", {"interface": "eth0"}),
    ],
)
def test_classes_that_would_listen_in_plain_text(name, options, tmp_path):
    with pytest.raises(InputError, match=r"plain text.*security = true.*--insecure"):
        _class(tmp_path, name, options)
    assert _class(tmp_path, name, options, insecure=True)


def _class(folder: Path, name: str, options: dict, *, insecure: bool = False):
    lines = [f'class = "{name}"', "workers = 2", "[options]"]
    for key, value in options.items():
        lines.append(f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}")
    return read_cluster(written(folder, "\n".join(lines)), insecure=insecure)
