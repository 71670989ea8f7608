"""Hand-written SVG: compact paths, and axes for the small plots. Colours are CSS classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

WIDTH, HEIGHT = 460, 310
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 12, 44
_TEXT_HEIGHT = 4  # half of a line's height, to centre text on a tick


def whole(parts: Iterable[str]) -> Markup:
    """Return parts of our own making, in which every foreign text is escaped, as markup."""
    return Markup("".join(parts))  # noqa: S704 - callers escape what is not theirs


def path(points: FloatArray, *, closed: bool = False) -> str:
    """Return the data of a path through points of shape (n, 2), rounded to whole units.

    Relative, so that a tile is a few bytes; neighbours share their rounded corners exactly.
    """
    places = np.round(points).astype(np.int64)
    steps = np.diff(places, axis=0)
    steps = steps[np.any(steps != 0, axis=1)]
    line = "".join(f"{_joined(x)}{_joined(y)}" for x, y in steps.tolist())
    start = f"M{places[0, 0]}{_joined(int(places[0, 1]))}"
    return f"{start}l{line.lstrip()}{'z' if closed else ''}" if line else start


def _joined(value: int) -> str:
    return str(value) if value < 0 else f" {value}"


def dots(x: FloatArray, y: FloatArray) -> str:
    """Return the data of a path whose round line ends are dots."""
    return "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(x.tolist(), y.tolist(), strict=True))


def nice_step(span: float, count: int = 5) -> float:
    """Return a step of 1, 2 or 5 times a power of ten that divides ``span`` in about ``count``."""
    raw = span / count
    power = 10.0 ** np.floor(np.log10(raw))
    return float(next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9)))


def short(value: float) -> str:
    """Return a number for a tick: as few digits as say it, thousands with thin spaces."""
    if abs(value) >= 1e6:
        exponent = int(np.floor(np.log10(abs(value)) + 1e-12))
        lead = value / 10.0**exponent
        return (
            f"{lead:g}×10{str(exponent).translate(_SUPERSCRIPT)}"
            if lead != 1
            else (f"10{str(exponent).translate(_SUPERSCRIPT)}")
        )
    if abs(value) >= 1e4:
        return f"{value:,.0f}".replace(",", "\u2009")
    return f"{value:.10g}".replace("-", "\u2212")


_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


@dataclass
class Plot:
    """A small plot: axes from data to units of the drawing, and what is drawn so far.

    Parameters
    ----------
    x, y : tuple of float
        Limits of the axes.
    x_label, y_label : str
    log_x, log_y : bool
    """

    x: tuple[float, float]
    y: tuple[float, float]
    x_label: str
    y_label: str
    log_x: bool = False
    log_y: bool = False
    parts: list[str] = field(default_factory=list)

    def at(self, x: Sequence[float] | FloatArray, y: Sequence[float] | FloatArray) -> FloatArray:
        """Return positions in the drawing, shape (n, 2)."""
        across = _scaled(np.asarray(x, np.float64), self.x, log=self.log_x)
        up = _scaled(np.asarray(y, np.float64), self.y, log=self.log_y)
        return np.stack(
            [
                _LEFT + across * (WIDTH - _LEFT - _RIGHT),
                HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM),
            ],
            axis=-1,
        )

    def line(
        self, x: Sequence[float] | FloatArray, y: Sequence[float] | FloatArray, kind: str
    ) -> None:
        """Draw a line; what leaves the frame is clipped."""
        self.parts.append(f'<path class="{kind}" d="{_fine(self.at(x, y))}"/>')

    def band(self, x: FloatArray, low: FloatArray, high: FloatArray, kind: str) -> None:
        """Fill between two curves."""
        edge = np.concatenate([self.at(x, low), self.at(x, high)[::-1]])
        self.parts.append(f'<path class="{kind}" d="{_fine(edge)}z"/>')

    def dots(self, x: FloatArray, y: FloatArray, kind: str) -> None:
        """Draw points."""
        if len(x):
            self.parts.append(f'<path class="{kind}" d="{dots(*self.at(x, y).T)}"/>')

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> None:
        """Write beside a point."""
        (a, b) = self.at([x], [y])[0]
        self.parts.append(
            f'<text class="{kind}" x="{a:.1f}" y="{b:.1f}" text-anchor="{anchor}">'
            f"{escape(words)}</text>"
        )

    def svg(self, name: str, title: str) -> Markup:
        """Return the figure.

        Parameters
        ----------
        name : str
            Unique on the page; our own.
        title : str
            What a screen reader says of it.
        """
        left, right, bottom = _LEFT, WIDTH - _RIGHT, HEIGHT - _BOTTOM
        middle = (left + right) / 2, (_TOP + bottom) / 2
        head = (
            f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-labelledby="{name}-t"><title id="{name}-t">{escape(title)}</title>'
            f'<clipPath id="{name}-c"><rect x="{left}" y="{_TOP}" width="{right - left}" '
            f'height="{bottom - _TOP}"/></clipPath>'
        )
        labels = (
            f'<path class="axis" d="M{left} {_TOP}V{bottom}H{right}"/>'
            f'<text class="label" x="{middle[0]:.0f}" y="{HEIGHT - 6}" text-anchor="middle">'
            f"{escape(self.x_label)}</text>"
            f'<text class="label" text-anchor="middle" '
            f'transform="translate(12 {middle[1]:.0f})rotate(-90)">{escape(self.y_label)}</text>'
        )
        drawn = [f'<g clip-path="url(#{name}-c)">', *self.parts, "</g>"]
        return whole([head, *self._ticks(), *drawn, labels, "</svg>"])

    def _ticks(self) -> Iterable[str]:
        bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
        for value in ticks(self.x, log=self.log_x):
            x = self.at([value], [self.y[0]])[0, 0]
            yield f'<path class="tick" d="M{x:.1f} {bottom}v5"/>'
            yield f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{short(value)}</text>'
        for value in ticks(self.y, log=self.log_y):
            y = self.at([self.x[0]], [value])[0, 1]
            yield f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>'
            yield (
                f'<text x="{_LEFT - 6}" y="{y + _TEXT_HEIGHT:.1f}" text-anchor="end">'
                f"{short(value)}</text>"
            )


def ticks(limits: tuple[float, float], *, log: bool = False) -> list[float]:
    """Return round values between the limits."""
    low, high = limits
    if log and high / low > 4:  # within less, a log axis is nearly an even one
        decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
        wanted = (1, 2, 5) if np.log10(high / low) < 1.6 else (1,)
        values = [m * 10.0**d for d in decades for m in wanted]
        return [v for v in values if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
    step = nice_step(high - low)
    first = int(np.ceil(low / step - 1e-9))
    return [float(f"{i * step:.10g}") for i in range(first, int(high / step + 1e-9) + 1)]


def _scaled(values: FloatArray, limits: tuple[float, float], *, log: bool) -> FloatArray:
    low, high = limits
    if log:
        low, high, values = np.log10(low), np.log10(high), np.log10(values)
    return np.asarray((values - low) / (high - low))


def _fine(points: FloatArray) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points.tolist())
