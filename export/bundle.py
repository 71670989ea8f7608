"""What a model bundle is: a folder that holds a network and everything needed to trust it.

::

    NAME.bundle/
    ├── bundle.json             the manifest: digests, answers, input contract, provenance, metrics
    ├── model.onnx              uint8 cutouts in, one named probability per answer out
    ├── model.int8.onnx         the same in 8 bits, if it was asked for
    ├── parity_tiles.csv        by tile of the sky, how its answers differ from the original's
    ├── training_sky.moc.fits   where the training galaxies lie, if that is known
    └── card.md                 the same for people

A bundle comes from anywhere, so opening one trusts nothing: only the listed files, each with its
digest, no links, no tensors stored outside the model, and only standard ONNX operators
(`export.verify`). `export.manifest` has the manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from catalogs.errors import InputError, IntegrityError
from export.manifest import MANIFEST, SCHEMA_VERSION, FileEntry, Manifest, first_fault
from export.older import OLDEST, upgraded
from export.verify import verify_model

MAX_MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened, verified bundle.

    Parameters
    ----------
    path : Path
    manifest : Manifest
    sha256 : str
        Digest of ``bundle.json``, and through it of every file.
    """

    path: Path
    manifest: Manifest
    sha256: str

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Read and verify a bundle.

        Raises
        ------
        InputError
            There is no bundle at ``path``, or this version cannot read it.
        IntegrityError
            A file is missing, changed, not listed, a link, or the model needs something from
            outside of the bundle.
        """
        folder = Path(path)
        if not (folder / MANIFEST).is_file():
            raise InputError(
                f"{folder} is no model bundle (it has no {MANIFEST}); "
                "give a folder that `skytally export` made"
            )
        raw = _read(folder / MANIFEST, MAX_MANIFEST_BYTES)
        manifest = _parse(raw, folder)
        _verify_files(folder, manifest)
        bundle = cls(folder, manifest, hashlib.sha256(raw).hexdigest())
        for precision, name in manifest.precisions.items():
            verify_model(bundle.model_bytes(precision), manifest, folder / name)
        return bundle

    def model_bytes(self, precision: str = "fp32") -> bytes:
        """Return the ONNX model of a precision, verified as it is read.

        Raises
        ------
        InputError
            The bundle has no model of this precision.
        IntegrityError
            The file has changed.
        """
        # Where fp32 is computed in 16 bits, it is so by the provider, from the same model.
        wanted = "fp32" if precision in ("bf16", "fp16") else precision
        for name, file in self.manifest.precisions.items():
            if name == wanted:
                return self.file(file)
        raise InputError(
            f"{self.path} has no {precision} model (it has {', '.join(self.manifest.precisions)}); "
            f"make one with `skytally export {self.path} --to NEW.bundle --precision "
            f"fp32,{precision} --calibrate survey.zarr`"
        )

    def file(self, name: str) -> bytes:
        """Return a file that the manifest lists, verified as it is read.

        Raises
        ------
        IntegrityError
            It has changed.
        """
        return _read_verified(self.path / name, self.manifest.files[name])


def shipped() -> Path:
    """Return the path of the spiral/elliptical bundle that comes with skytally."""
    return Path(__file__).parent / "shipped" / "gz1-equivariant.bundle"


def entry_of(content: bytes) -> FileEntry:
    """Return digest and size of a file's content."""
    return FileEntry(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def write(to: Path, manifest: Manifest, files: Mapping[str, bytes], *, replace: bool) -> Bundle:
    """Write a bundle whole or not at all, and open it again.

    Parameters
    ----------
    to : Path
        ``NAME.bundle``; must not exist unless ``replace``.
    manifest : Manifest
        Without ``files``; these are added.
    files : mapping of str to bytes
        Every file but the manifest.
    replace : bool
        Put the new bundle in the place of an old one.

    Raises
    ------
    InputError
        ``to`` exists and ``replace`` is false, or it exists and is no bundle.
    """
    if to.exists() and not replace:
        raise InputError(f"{to} exists already; choose another name or remove it")
    if to.exists() and not (to / MANIFEST).is_file():
        raise InputError(f"{to} exists and is no model bundle; choose another name")
    to.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{to.name}.", dir=to.parent))
    try:
        entries = {name: entry_of(content) for name, content in sorted(files.items())}
        complete = manifest.model_copy(update={"files": entries})
        text = json.dumps(complete.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"
        for name, content in {**files, MANIFEST: text.encode()}.items():
            with (scratch / name).open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        scratch.chmod(0o755)
        Bundle.open(scratch)
        if to.exists():
            shutil.rmtree(to)
        scratch.rename(to)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return Bundle.open(to)


def _parse(raw: bytes, folder: Path) -> Manifest:
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{folder / MANIFEST} is not JSON; make the bundle again") from error
    version = values.get("schema_version") if isinstance(values, dict) else None
    if version not in (OLDEST, SCHEMA_VERSION):
        raise InputError(
            f"{folder} has bundle schema version {_shown(version)}; this skytally reads "
            f"{OLDEST} and {SCHEMA_VERSION}"
        )
    try:
        return Manifest.model_validate(upgraded(values) if version == OLDEST else values)
    except (KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{folder / MANIFEST} lacks {error}; make the bundle again") from error
    except ValidationError as error:
        raise IntegrityError(f"{folder / MANIFEST}: {first_fault(error)}") from error


def _shown(value: Any) -> str:  # noqa: ANN401  (any JSON value)
    return repr(value)[:20]


def _verify_files(folder: Path, manifest: Manifest) -> None:
    missing = manifest.required - set(manifest.files)
    if missing:
        raise IntegrityError(f"{folder / MANIFEST} does not list {', '.join(sorted(missing))}")
    listed = {*manifest.files, MANIFEST}
    for entry in sorted(folder.iterdir()):
        if entry.is_symlink() or not entry.is_file():
            raise IntegrityError(f"{entry} is not a plain file; bundles hold no links or folders")
        if entry.name not in listed:
            raise IntegrityError(f"{entry} is not listed in {MANIFEST}; remove it")
    for name, expected in manifest.files.items():
        _read_verified(folder / name, expected)


def _read_verified(path: Path, expected: FileEntry) -> bytes:
    content = _read(path, expected.bytes)
    if entry_of(content) != expected:
        raise IntegrityError(f"{path} has changed since the bundle was made; fetch it again")
    return content


def _read(path: Path, limit: int) -> bytes:
    """Read a plain file of at most ``limit`` bytes, following no link."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise IntegrityError(f"{path} cannot be read ({error.strerror})") from error
    with os.fdopen(handle, "rb") as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise IntegrityError(f"{path} is larger than the {limit} bytes that it should have")
    return content
