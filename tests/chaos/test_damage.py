"""A survey store with any file damaged never gives, in silence, another catalog."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos.checks import rows_of
from chaos.drive import drive
from chaos.little import two_nights
from stores import damaged
from surveys import brightness_bundle

from catalogs.cutouts import store
from catalogs.errors import SkytallyError

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(sys.platform != "linux", reason="works in memory"),
]
Row = dict[str, object]


class Setting:
    """A little survey, its clean catalog's rows, and a place for others."""

    def __init__(self, folder: Path) -> None:
        self.survey = two_nights(folder)[1]
        self.model = brightness_bundle(folder / "brightness.bundle").path
        self._folder = folder
        self._count = 0
        self.clean = self.rows()

    def rows(self) -> list[Row]:
        self._count += 1
        catalog = self._folder / f"catalog{self._count}"
        drive(self.survey, self.model, catalog)
        return rows_of(catalog)


@pytest.fixture(scope="module")
def setting(in_memory) -> Setting:
    return Setting(in_memory("damage"))


def silent(found: list[Row], clean: list[Row]) -> list[str]:
    """Return what differs without a word: all but rows that are called a checksum error."""
    if [row["id"] for row in found] != [row["id"] for row in clean]:
        return [f"{len(found)} other rows"]
    return [
        f"row {row['id']}: {row}"
        for row, before in zip(found, clean, strict=True)
        if row != before and row["status"] != "checksum_error"
    ]


def damages(setting: Setting) -> Iterator[tuple[str, list[str]]]:
    """Yield each damage to each file with what is wrong about the command's answer to it."""
    files = [path for path in sorted(setting.survey.rglob("*")) if path.is_file()]
    for i, path in enumerate(files):
        content = path.read_bytes()
        *flips, cut, gone = damaged(content) if content else [("removed", None)] * 3
        for how, now in (flips[i % len(flips)], cut, gone):
            if now is None:
                path.unlink()
            else:
                path.write_bytes(now)
            try:
                wrong = silent(setting.rows(), setting.clean)
            except SkytallyError as error:
                lines = str(error).splitlines()
                wrong = [] if error.exit_status in (2, 20) and len(lines) == 1 else [str(error)]
            except Exception as error:  # noqa: BLE001  (a traceback is what is looked for)
                wrong = [f"ends with {error!r}"]
            finally:
                path.write_bytes(content)
            yield f"{path.relative_to(setting.survey)}: {how}", wrong


def test_no_damage_to_a_store_changes_a_catalog_in_silence(setting):
    found = list(damages(setting))
    assert [damage for damage in found if damage[1]] == []
    assert len(found) > 150


def test_a_reader_that_does_not_compare_is_found(setting, monkeypatch):
    monkeypatch.setattr(store.Survey, "_compare", lambda *_: None)
    assert next(wrong for _, wrong in damages(setting) if wrong)
