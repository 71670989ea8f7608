"""Every error that a user can cause is one clear line and the right exit status."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from surveys import encode, scattered, small_image


def skytally(*arguments: object, cwd: Path | None = None, code: str | None = None, **options):
    program = ["-m", "skytally"] if code is None else ["-c", code]
    return subprocess.run(
        [sys.executable, *program, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        check=False,
        **options,
    )


def one_line(result: subprocess.CompletedProcess[str], status: int, *said: str) -> None:
    lines = [line for line in result.stderr.splitlines() if not line.startswith('{"event"')]
    assert result.returncode == status, result.stderr
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("skytally: ")
    for text in said:
        assert text in lines[0]


@pytest.fixture
def table(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    ra, dec = scattered(50)
    lines = ["id,ra,dec"]
    for row in range(50):
        (images / f"{row}.png").write_bytes(encode(small_image(row)))
        lines.append(f"{row},{ra[row]!r},{dec[row]!r}")
    (tmp_path / "table.csv").write_text(
        "\n".join(lines).replace("np.float64(", "").replace(")", "")
    )
    return tmp_path / "table.csv"


def test_a_missing_table(tmp_path):
    result = skytally("ingest", tmp_path / "no.csv", "--images", tmp_path, "--to", "s.zarr")
    one_line(result, 2, "no.csv")


def test_an_empty_table(table):
    table.write_text("id,ra,dec\n")
    result = skytally("ingest", table, "--images", table.parent / "images", "--to", "s.zarr")
    one_line(result, 2, "no rows")


def test_a_wrong_column(table):
    to = table.parent / "s.zarr"
    result = skytally(
        "ingest", table, "--images", table.parent / "images", "--id", "objid", "--to", to
    )
    one_line(result, 2, "'objid'", "id, ra, dec")
    assert not to.exists()


def test_an_image_folder_that_is_not_there_or_empty(table):
    result = skytally("ingest", table, "--images", "nowhere", "--to", table.parent / "s.zarr")
    one_line(result, 2, "'nowhere'", "neither a folder", "nor a column")
    (table.parent / "none").mkdir()
    result = skytally(
        "ingest", table, "--images", table.parent / "none", "--to", table.parent / "s.zarr"
    )
    one_line(result, 2, "holds no", ".jpeg")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody with fewer rights")
def test_an_image_folder_without_rights(table):
    """The same process first succeeds as root, so that everything is imported, then may not."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        shutil.copytree(table.parent, folder, dirs_exist_ok=True)
        Path(folder).chmod(0o755)
        (Path(folder) / "images").chmod(0o700)
        code = (
            "import os, sys, skytally; arguments = sys.argv[1:];"
            "skytally.app([*arguments, '--to', sys.argv[2] + '.zarr'], standalone_mode=False);"
            "os.setuid(65534); sys.argv += ['--to', '/tmp/never.zarr']; skytally.main()"
        )
        result = skytally(
            *("ingest", f"{folder}/table.csv", "--images", f"{folder}/images"), code=code
        )
        one_line(result, 2, f"{folder}/images cannot be read", "Permission denied")


def test_too_many_bad_rows(table):
    for row in range(10):
        (table.parent / "images" / f"{row}.png").unlink()
    result = skytally(
        "ingest", table, "--images", table.parent / "images", "--to", table.parent / "s.zarr"
    )
    one_line(result, 3, "10 of 50 rows", "no_image", "--max-bad")


def test_what_is_no_survey(tmp_path):
    one_line(skytally("annotate", tmp_path, "--to", tmp_path / "c"), 2, "not a survey store")
    one_line(skytally("train", tmp_path, "--to", tmp_path / "r.run"), 2, "not a survey store")


def test_no_such_model(small_survey, tmp_path):
    result = skytally("annotate", small_survey, "--model", "no.bundle", "--to", tmp_path / "c")
    one_line(result, 2, "no.bundle", "no model bundle")


def test_no_onnx_runtime(small_survey, tmp_path):
    code = "import sys; sys.modules['onnxruntime'] = None; import skytally; skytally.main()"
    result = skytally("annotate", small_survey, "--to", tmp_path / "c", code=code)
    one_line(result, 2, "no ONNX Runtime", "skytally[cpu]", "skytally[gpu]")


def test_no_torch(small_survey, tmp_path):
    code = (
        "import sys, importlib.util as u; find = u.find_spec;"
        "u.find_spec = lambda name, *a: None if name == 'torch' else find(name, *a);"
        "import skytally; skytally.main()"
    )
    result = skytally("train", small_survey, "--to", tmp_path / "r.run", code=code)
    one_line(result, 2, "torch is not installed", "skytally[train]")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small file system")
def test_a_full_disk_and_a_later_run(small_survey, brightness, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(small)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    command = ("annotate", small_survey, "--model", brightness.path, "--to", small / "catalog")
    try:
        one_line(skytally(*command), 20, "No space left on device", "free some space")
        grow = ["mount", "-o", "remount,size=64m", str(small)]
        subprocess.run(grow, check=True, capture_output=True)
        result = skytally(*command)
        assert result.returncode == 0, result.stderr
        assert "2000 objects (2000 ok)" in result.stdout
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_unknown_config_keys_are_all_named(tmp_path):
    config = tmp_path / "run.toml"
    config.write_text('to = "x"\nfoo = 1\nbar = 2\n')
    one_line(skytally("annotate", "--config", config), 2, "'foo', 'bar'", "max-bad")
    config.write_text("to = ")
    one_line(skytally("annotate", "--config", config), 2, "is not TOML")
    one_line(skytally("annotate", "--config", tmp_path / "no.toml"), 2, "cannot be read")


def test_a_config_file_says_what_flags_say(small_survey, brightness, tmp_path):
    config = tmp_path / "run.toml"
    config.write_text(
        f'survey = "{small_survey}"\nto = "{tmp_path / "c"}"\nmodel = "{brightness.path}"\n'
        "workers = 1\nmax-bad = 0.5\n"
    )
    result = skytally("annotate", "--config", config)
    assert result.returncode == 0, result.stderr
    assert "2000 objects (2000 ok)" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frobnicate"], "frobnicate"),
        (["ingest"], "table"),
        (["annotate", "s.zarr", "--to", "c", "--max-bad", "7"], "--max-bad"),
        (["annotate", "s.zarr", "--to", "c", "--precision", "int3"], "--precision"),
        (["annotate", "s.zarr", "--to", "c", "--stall-seconds", "inf"], "--stall-seconds"),
        (["status", "nowhere"], "no annotated catalog"),
        (["convert", "nowhere", "--to", "x.csv"], "no annotated catalog"),
        (["convert", "nowhere", "--to", "x.doc"], "no ending"),
        (["export"], "NAME.run"),
        (["export", "--check", "nowhere"], "no model bundle"),
        (["audit", "nowhere.csv", "--to", "a.audit"], "nowhere.csv"),
        (["audit", "x.csv", "--to", "a", "--fail-on", "sunshine"], "sunshine"),
    ],
)
def test_what_a_user_types_wrong(arguments, said, tmp_path):
    one_line(skytally(*arguments, cwd=tmp_path), 2, said)


def test_an_audit_of_a_table_without_an_answer(table):
    one_line(skytally("audit", table, "--to", table.parent / "a.audit"), 2, "answer")


def test_fail_on_anisotropic_is_a_status_of_its_own(tmp_path):
    ra, dec = scattered(200_000)
    spiral = (ra < 180).astype(int)
    lines = [f"{a:.4f},{d:.4f},{s}" for a, d, s in zip(ra, dec, spiral, strict=True)]
    path = tmp_path / "labels.csv"
    path.write_text("ra,dec,spiral\n" + "\n".join(lines) + "\n")
    arguments = ("audit", path, "--label", "spiral", "--to", tmp_path / "a.audit")
    result = skytally(*arguments, "--fail-on", "anisotropic")
    assert result.returncode == 4, result.stderr
    assert "anisotropic" in result.stdout


def test_results_that_are_written_to_disks_only(tmp_path):
    for command in ("audit", "convert"):
        result = skytally(command, tmp_path / "c", "--to", "s3://sky/out.csv", cwd=tmp_path)
        one_line(result, 2, "s3:// is no place")
    assert not (tmp_path / "s3:").exists()
