"""What a model bundle is: a folder that holds a network and everything needed to trust it.

::

    NAME.bundle/
    ├── bundle.json             the manifest: digests, answers, input contract, provenance, metrics
    ├── model.onnx              uint8 cutouts in, one named probability per answer out
    ├── model.int8.onnx         the same in 8 bits, if it was asked for
    ├── training_sky.moc.fits   where the training galaxies lie
    └── card.md                 the same for people

A bundle comes from anywhere, so opening one trusts nothing: only the listed files, each with its
digest, no links, no tensors stored outside the model, and only standard ONNX operators.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import onnx
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from catalogs.errors import InputError, IntegrityError

SCHEMA_VERSION = 1
MANIFEST, MODEL, SKY, CARD = "bundle.json", "model.onnx", "training_sky.moc.fits", "card.md"
INT8_MODEL = "model.int8.onnx"
MAX_BYTES = 1 << 30
MAX_MANIFEST_BYTES = 1 << 20
OPERATOR_DOMAINS = frozenset({"", "ai.onnx"})

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Number = int | float | str | bool | None


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class FileEntry(_Part):
    """Digest and size of one file of the bundle."""

    sha256: Digest
    bytes: int = Field(ge=0, le=MAX_BYTES)


class InputContract(_Part):
    """What the graph is fed: cutouts (n, height, width, channels), grey levels 0 to 255.

    ``crop`` is the central square [px] of the survey's cutouts that shows the framing on which
    the network was trained; smaller cutouts with that framing are given whole. Any height and
    width are accepted and scaled inside the graph to ``trained_size``.
    """

    name: str = "cutouts"
    crop: int = Field(gt=0, le=8192)
    trained_size: int = Field(gt=0, le=8192)
    channels: int = Field(gt=0, le=16)
    dtype: Literal["uint8", "uint16", "float32"] = "uint8"
    layout: Literal["NHWC"] = "NHWC"


class Metric(_Part):
    """A number measured on galaxies not trained on, with its 95% interval."""

    value: float
    low: float
    high: float
    n: int


class Provenance(_Part):
    """Where the weights come from."""

    survey: str
    data_fingerprint: str
    label_column: str
    counts: dict[str, dict[str, int]]
    regions: dict[str, str]
    seed: int
    code_version: str
    framing: str
    credit: str
    settings: dict[str, Number | dict[str, object] | list[object]]


class Parity(_Part):
    """Largest difference between the graph in ONNX Runtime and the network in PyTorch."""

    images: int
    sizes: list[int]
    max_abs_difference: float
    label_differences: int
    tolerance: float
    runtime: str


class VariantParity(_Part):
    """How far a variant's answers are from the fp32 model's, on galaxies that it has not seen.

    Attributes
    ----------
    survey : str
        Whose galaxies were used.
    calibrated_on, images : int
        Galaxies of the training sky that set the variant's ranges, and of the held-out sky that
        were compared.
    label_differences : int
        Galaxies whose label differs.
    allowed_share : float
        The largest share of such galaxies with which the variant would have been made.
    max_abs_difference, mean_abs_difference : float
        Of a probability.
    runtime : str
        What answered.
    """

    survey: str
    calibrated_on: int
    images: int
    label_differences: int
    allowed_share: float
    max_abs_difference: float
    mean_abs_difference: float
    runtime: str


class Manifest(_Part):
    """The contents of ``bundle.json``.

    ``precisions`` names the model of each precision that has one; the others than fp32 are
    variants, and ``variants`` says how far each is from it.
    """

    schema_version: Literal[1] = 1
    name: str
    files: dict[str, FileEntry] = {}
    labels: list[str] = Field(min_length=2)
    answers: list[str] = Field(min_length=2)
    spiral: str
    threshold: float = Field(gt=0, lt=1)
    input: InputContract
    provenance: Provenance
    metrics: dict[str, Metric]
    parity: Parity
    precisions: dict[Literal["fp32", "int8"], str] = {"fp32": MODEL}
    variants: dict[Literal["int8"], VariantParity] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        if self.answers != [f"p_{label}" for label in self.labels]:
            raise ValueError("answers are not p_ and the labels, in order")
        if self.spiral not in self.answers:
            raise ValueError("spiral does not name an answer")
        for name in self.files:
            if name in {"", ".", "..", MANIFEST} or "/" in name or "\\" in name:
                raise ValueError("files lists a name that is not a plain file name")
        if self.precisions.get("fp32") != MODEL:
            raise ValueError(f"precisions does not name {MODEL} for fp32")
        if {"fp32", *self.variants} != set(self.precisions):
            raise ValueError("variants does not describe each precision but fp32")
        if len({MODEL, SKY, CARD, *self.precisions.values()}) != 2 + len(self.precisions):
            raise ValueError("precisions names a file twice")
        return self


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
            _verify_model(bundle.model_bytes(precision), manifest, folder / name)
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
                return _read_verified(self.path / file, self.manifest.files[file])
        raise InputError(
            f"{self.path} has no {precision} model (it has {', '.join(self.manifest.precisions)}); "
            f"make one with `skytally export {self.path} --to NEW.bundle --precision "
            f"fp32,{precision} --calibrate survey.zarr`"
        )


def shipped() -> Path:
    """Return the path of the spiral/elliptical bundle that comes with skytally."""
    return Path(__file__).parent / "shipped" / "gz1-shamir.bundle"


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
        # A bundle of fp32 alone does not speak of variants.
        unsaid = set() if complete.variants else {"precisions", "variants"}
        text = json.dumps(complete.model_dump(exclude=unsaid), indent=1, allow_nan=False) + "\n"
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
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{folder} has bundle schema version {version!r}; this skytally reads {SCHEMA_VERSION}"
        )
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise IntegrityError(f"{folder / MANIFEST}: {where}: {first['msg']}") from error


def _verify_files(folder: Path, manifest: Manifest) -> None:
    missing = {*manifest.precisions.values(), SKY, CARD} - set(manifest.files)
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


def _verify_model(content: bytes, manifest: Manifest, path: Path) -> None:
    """Refuse a model that reads outside of the bundle, or breaks the manifest's contract."""
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's DecodeError has no public, stable home
        raise IntegrityError(f"{path} is not an ONNX model") from error
    domains = {opset.domain for opset in model.opset_import}
    for graph in _graphs(model.graph):
        domains |= {node.domain for node in graph.node}
        tensors = [*graph.initializer]
        tensors += [part for s in graph.sparse_initializer for part in (s.values, s.indices)]
        for node in graph.node:
            for attribute in node.attribute:
                tensors += [attribute.t, *attribute.tensors]
        if any(
            tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL
            for tensor in tensors
        ):
            raise IntegrityError(f"{path} keeps tensors outside of the model file")
    if model.functions or not domains <= OPERATOR_DOMAINS:
        unknown = ", ".join(sorted(domains - OPERATOR_DOMAINS)) or "its own functions"
        raise IntegrityError(f"{path} uses operators outside of standard ONNX: {unknown}")
    inputs = [value.name for value in model.graph.input]
    outputs = [value.name for value in model.graph.output]
    if inputs != [manifest.input.name] or outputs != manifest.answers:
        raise IntegrityError(
            f"{path} maps {inputs} to {outputs}; {MANIFEST} says "
            f"{[manifest.input.name]} to {manifest.answers}"
        )


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and every graph inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                if inner.node or inner.initializer or inner.sparse_initializer:
                    yield from _graphs(inner)
