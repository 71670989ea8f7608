"""The shape of the project: layers, imports, documented commands, what the wheel holds."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("catalogs", "training", "export", "engine", "experiments")
BIN = Path(sys.executable).parent


def sources() -> list[Path]:
    return [p for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))]


def imported_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return {name.partition(".")[0] for name in result.stdout.split()}


def test_import_contracts_hold():
    result = subprocess.run(
        [BIN / "lint-imports", "--no-logo"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert result.returncode == 0, result.stdout


def test_nothing_below_the_command_line_imports_it():
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert "skytally" not in names, path


def test_help_loads_nothing_heavy():
    """Help answers in under 0.3 s because it imports none of these."""
    heavy = {"numpy", "torch", "dask", "distributed", "zarr", "pyarrow", "onnxruntime", "rich"}
    statement = "sys.argv = ['skytally', '--help']; import skytally; "
    statement += "import contextlib, io\nwith contextlib.suppress(SystemExit), "
    statement += "contextlib.redirect_stdout(io.StringIO()): skytally.main()\nimport sys"
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = {name.partition(".")[0] for name in result.stdout.split()}
    assert "typer" in loaded
    assert not heavy & loaded


@pytest.mark.parametrize("module", ["engine.task", "engine.run"])
def test_workers_never_load_torch(module):
    loaded = imported_by(f"import {module}")
    assert "torch" not in loaded
    assert "training" not in loaded


def test_one_partition_knows_no_dask():
    assert not {"dask", "distributed"} & imported_by("import engine.task")


@pytest.mark.parametrize("package", PACKAGES)
def test_the_import_packages_are_ours(package):
    """The top-level names are generic: a foreign package must not stand in for ours."""
    result = subprocess.run(
        [sys.executable, "-c", f"import {package}; print({package}.__file__)"],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    assert Path(result.stdout.strip()).parent == ROOT / package


def commands() -> list[str]:
    result = subprocess.run(
        [sys.executable, "-m", "skytally", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return re.findall(r"^  ([a-z]+)  ", result.stdout.partition("Commands:")[2], re.MULTILINE)


def test_every_command_is_documented_and_every_documented_one_exists():
    readme = (ROOT / "README.md").read_text()
    assert len(commands()) >= 8
    for command in commands():
        assert f"skytally {command}" in readme, command
    documented = set(re.findall(r"skytally ([a-z]+)\b", readme))
    words = {"is", "does", "writes", "streams", "says", "trains", "refuses", "itself"}
    assert documented - words <= set(commands())


def test_documented_flags_exist():
    readme = (ROOT / "README.md").read_text()
    for command in commands():
        shown = subprocess.run(
            [sys.executable, "-m", "skytally", command, "--help"],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        ).stdout
        for call in re.findall(rf"skytally {command}((?:[^\n`]|\\\n)*)", readme):
            for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", call):
                assert flag in shown, f"{command} {flag}"


def test_make_targets_are_those_promised():
    shown = subprocess.run(
        ["make", "help"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    for target in ("run", "test", "check", "bench", "chaos", "bundle", "docs", "clean", "help"):
        assert re.search(rf"^{target}\s", shown, re.MULTILINE), target


def test_the_wheel_holds_the_product_and_nothing_else(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    wheel = next(tmp_path.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        shipped = [i for i in archive.infolist() if "gz1-equivariant.bundle/" in i.filename]
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"skytally.py", *PACKAGES, next(t for t in tops if t.endswith(".dist-info"))}
    assert {Path(i.filename).name for i in shipped} == {
        "bundle.json",
        "card.md",
        "model.onnx",
        "parity_tiles.csv",
        "training_sky.moc.fits",
    }
    assert sum(i.file_size for i in shipped) <= 6 * 1024 * 1024
    templates = (ROOT / "catalogs/audit/report/templates").iterdir()
    on_disk = {str(path.relative_to(ROOT)) for path in [*sources(), *templates]}
    assert "catalogs/audit/report/templates/page.html.j2" in on_disk
    assert on_disk <= set(names)
    assert "catalogs/trees/gz2.toml" in names


def test_modules_fit_in_a_head():
    for path in [*sources(), ROOT / "skytally.py"]:
        assert len(path.read_text().splitlines()) <= 420, path
