"""A survey store made and grown in a bucket: object for object the one on a disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import s3
from stores import contents
from surveys import encode, scattered, small_image

from catalogs.cutouts.store import Survey
from catalogs.cutouts.writer import SurveyInfo, SurveyTable, append_survey, write_survey
from catalogs.errors import InputError, IntegrityError


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3.s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def endpoint(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in s3.environment(server).items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A place of its own for each test: the server forgets nothing."""
    return f"stores/{request.node.name}.zarr"


def table(first: int, rows: int) -> SurveyTable:
    ra, dec = scattered(rows, seed=first)
    return SurveyTable(np.arange(first, first + rows), ra, dec, {"mag": np.linspace(1, 2, rows)})


def images(chunks):
    return ([encode(small_image(row, 8)) for row in chunk.tolist()] for chunk in chunks)


def make(where: str | Path) -> None:
    write_survey(where, table(0, 300), images, SurveyInfo(name="s", night="first"))
    assert append_survey(where, table(1000, 50), images, "second") == "00001"
    assert append_survey(where, table(1000, 50), images, "second") is None


def digests(objects: dict[str, bytes]) -> dict[str, str]:
    """Digest of every object but the root, which says when it was written, and the lock."""
    return {
        name: hashlib.sha256(content).hexdigest()
        for name, content in objects.items()
        if name not in ("zarr.json", ".lock")
    }


def test_a_store_in_a_bucket_is_the_one_on_a_disk(endpoint, prefix, tmp_path):
    url = f"s3://{s3.BUCKET}/{prefix}"
    make(url)
    make(tmp_path / "s.zarr")
    local = {
        path.relative_to(tmp_path / "s.zarr").as_posix(): path.read_bytes()
        for path in (tmp_path / "s.zarr").rglob("*")
        if path.is_file()
    }
    assert digests(s3.objects(endpoint, prefix)) == digests(local)
    assert contents(Survey.open(url)) == contents(Survey.open(tmp_path / "s.zarr"))
    with pytest.raises(InputError, match="exists already"):
        write_survey(url, table(0, 5), images, SurveyInfo(name="s"))


def test_what_a_killed_writer_left_in_a_bucket_is_no_store_and_is_replaced(endpoint, prefix):
    url = f"s3://{s3.BUCKET}/{prefix}"
    client = s3.client(endpoint)
    for name in ("appends/00000/ra/c/7", "appends/00000/old/zarr.json"):
        client.put_object(Bucket=s3.BUCKET, Key=f"{prefix}/{name}", Body=b"old")
    with pytest.raises(InputError, match="not a survey store"):
        Survey.open(url)
    make(url)
    objects = s3.objects(endpoint, prefix)
    assert "appends/00000/ra/c/0" in objects
    assert b"old" not in objects.values()


def test_a_missing_or_changed_object_is_found(endpoint, prefix):
    url = f"s3://{s3.BUCKET}/{prefix}"
    make(url)
    client = s3.client(endpoint)
    before = contents(Survey.open(url))
    name = "appends/00000/columns/mag/c/0"
    key, content = f"{prefix}/{name}", bytearray(s3.objects(endpoint, prefix)[name])
    client.delete_object(Bucket=s3.BUCKET, Key=key)
    with pytest.raises(IntegrityError, match="columns/mag"):
        contents(Survey.open(url))
    content[40] ^= 1
    client.put_object(Bucket=s3.BUCKET, Key=key, Body=bytes(content))
    with pytest.raises(IntegrityError, match="columns/mag"):
        contents(Survey.open(url))
    content[40] ^= 1
    client.put_object(Bucket=s3.BUCKET, Key=key, Body=bytes(content))
    assert contents(Survey.open(url)) == before
