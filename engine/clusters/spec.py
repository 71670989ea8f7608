"""What ``--cluster`` says: ``local``, ``cuda``, a scheduler's address, or a TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from catalogs.errors import InputError
from catalogs.storage.place import is_loopback

Kind = Literal["local", "cuda", "address", "class"]
ADDRESS_WAIT_SECONDS = 60.0
CLASS_WAIT_SECONDS = 600.0
Count = Annotated[int, Field(ge=1)]


class Keys(BaseModel):
    """The files of a TLS connection, PEM."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca: Path
    cert: Path
    key: Path


class ClusterSpec(BaseModel):
    """A cluster as a TOML file describes it.

    Attributes
    ----------
    class_ : str, optional
        Dotted name of a Dask cluster class, started for the run and stopped after it.
    address : str, optional
        A running scheduler instead.
    workers : int, optional
        Workers (jobs, pods) of a class; or `minimum` and `maximum`, between which Dask chooses.
    wait : float, optional
        Longest time without any worker [s]; by default a minute for an address, ten for a class.
    options : dict
        Keywords of the class.
    tls : Keys, optional
        Files for an address ``tls://…``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    class_: str | None = Field(None, alias="class", pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")
    address: str | None = None
    workers: Count | None = None
    minimum: Annotated[int, Field(ge=0)] | None = None
    maximum: Count | None = None
    wait: Annotated[float, Field(gt=0)] | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    tls: Keys | None = None

    @model_validator(mode="after")
    def _one_cluster(self) -> ClusterSpec:
        mistakes = []
        if (self.class_ is None) == (self.address is None):
            mistakes.append("give either class or address")
        if self.address is not None:
            given = {"workers", "minimum", "maximum", "options"} & self.model_fields_set
            mistakes += [f"{name} belongs to a class, not to an address" for name in sorted(given)]
            if self.tls is not None and urlsplit(self.address).scheme != "tls":
                mistakes.append("tls belongs to an address tls://…")
        elif self.tls is not None:
            mistakes.append("tls belongs to an address; a class takes security in [options]")
        if (self.minimum is None) != (self.maximum is None):
            mistakes.append("minimum and maximum go together")
        if self.class_ is not None and (self.workers is None) == (self.maximum is None):
            mistakes.append("give either workers, or minimum and maximum")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            mistakes.append("minimum is more than maximum")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    @property
    def wait_seconds(self) -> float:
        """Longest time without any worker [s]."""
        if self.wait is not None:
            return self.wait
        return CLASS_WAIT_SECONDS if self.address is None else ADDRESS_WAIT_SECONDS


def read_cluster(where: str, *, insecure: bool = False) -> Literal["local", "cuda"] | ClusterSpec:
    """Return what ``where`` means, and refuse what would send plain text over a network.

    Parameters
    ----------
    where : str
        ``local``, ``cuda``, an address such as ``tls://host:8786``, or a TOML file's path. The
        file names code that is run: trust it as you would a script.
    insecure : bool
        Plain text to other machines is wanted.

    Raises
    ------
    InputError
        It is none of these, the file cannot be used (all its mistakes are named), or its cluster
        would be plain text.
    """
    if where == "local":
        return "local"
    if where == "cuda":
        return "cuda"
    if where.endswith(".toml"):
        spec = _read_file(Path(where))
    elif urlsplit(where).scheme in ("tcp", "tls"):
        spec = ClusterSpec(address=where)
    else:
        raise InputError(
            f"cluster {where!r} is neither local, cuda, an address such as tls://host:8786, "
            "nor a .toml file"
        )
    if spec.address is not None:
        _check_address(spec.address, insecure=insecure)
    elif not insecure:
        _check_class(spec)
    return spec


def is_private(address: str) -> bool:
    """Say whether nobody on the network can read or send what goes to this address."""
    parts = urlsplit(address)
    return parts.scheme in ("tls", "inproc") or is_loopback(parts.hostname or "")


def _read_file(path: Path) -> ClusterSpec:
    try:
        values = tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(f"cluster {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"cluster {path} is not TOML: {error}") from None
    tls = values.get("tls")
    if isinstance(tls, dict):  # as seen from the file, wherever the command runs
        values["tls"] = {
            name: str(path.parent / value) if isinstance(value, str) else value
            for name, value in tls.items()
        }
    try:
        return ClusterSpec.model_validate(values)
    except ValidationError as error:
        raise InputError(f"cluster {path}: {_mistakes(error)}") from None


def _mistakes(error: ValidationError) -> str:
    said = []
    for mistake in error.errors():
        name = ".".join(map(str, mistake["loc"]))
        if mistake["type"] == "extra_forbidden":
            said.append(f"unknown {name!r}")
        else:
            message = mistake["msg"].removeprefix("Value error, ")
            said.append(f"{name}: {message}" if name else message)
    return "; ".join(said)


def _check_address(address: str, *, insecure: bool) -> None:
    parts = urlsplit(address)
    if "@" in address:
        raise InputError(
            f"a cluster's address has no user or password ({parts.scheme}://…@…); schedulers know "
            "each other by certificates: name them under [tls] of a TOML file"
        )
    try:
        usable = parts.scheme in ("tcp", "tls") and parts.hostname and parts.port
    except ValueError:
        usable = False
    if not usable:
        raise InputError(f"cluster {address!r} is no address; give one such as tls://host:8786")
    if not insecure and not is_private(address):
        raise InputError(
            f"cluster {address!r} is plain text to another machine; use tls://, a tunnel to this "
            "machine, or --insecure on a network that you trust"
        )


def _check_class(spec: ClusterSpec) -> None:
    """Refuse, before it listens, a cluster that is not known to keep to itself."""
    options = spec.options
    stays_here = str(spec.class_).rpartition(".")[2] in ("LocalCluster", "LocalCUDACluster")
    stays_here &= "interface" not in options and is_loopback(str(options.get("host", "127.0.0.1")))
    if not stays_here and not options.get("security"):
        raise InputError(
            f"cluster class {spec.class_} would talk in plain text to other machines; put "
            "security = true under [options], or give --insecure on a network that you trust"
        )
