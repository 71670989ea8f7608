"""What the labels ask for: which remedy, for which place, and what shows it.

Both rates speak. Background, noise and point spread that differ make both kinds of mistake more
frequent. Structure that is lost makes one kind more frequent and spares the other: P(smooth | disk)
grows where P(disk | smooth) stays 0 (Medina-Rosales & Cabrera-Vives 2021, eqs. 3-4). One kind more
and the other less is a classifier that leans to one answer, as after training on another mixture.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot

import numpy as np
from scipy import stats

from catalogs.audit.labels import attribution
from catalogs.audit.labels.confusion import Rate
from catalogs.audit.labels.labelled import Attribution

_POWER = 0.8


@dataclass(frozen=True, slots=True)
class Remedy:
    """What the evidence asks for: a short name, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Fall:
    """How much lower a rate is inside than outside, with a 95% interval.

    ``who`` says in words whose rate it is, ``what`` the mistake; ``sign`` is 1 where the rate is
    significantly lower inside, -1 where outside, else 0.
    """

    who: str
    what: str
    value: float
    low: float
    high: float
    sign: int

    @property
    def kind(self) -> str:
        """The mistake as a clause."""
        return f"{self.who} are {self.what}"

    def spared(self, other: Fall) -> bool:
        """Say whether this rate falls surely by less than half of what another one falls."""
        reach = self.high if other.sign > 0 else -self.low
        return reach < abs(other.value) / 2


def remedies(
    found: Attribution, answer: str, place: str, blurring: tuple[str, ...] = ()
) -> list[Remedy]:
    """Return which remedies the labels ask for.

    Parameters
    ----------
    found : Attribution
    answer : str
        The answer whose fraction is audited.
    place : str
        The region in words, to be read after a verb.
    blurring : tuple of str
        Covariates that hide structure and on which the answers depend.

    Returns
    -------
    list of Remedy
        A classifier that leans is told from lost structure only by answers that depend on what
        blurs.
    """
    if found.rates is None or found.alone is None:
        return [Remedy("more labels", "; ".join(found.obstacles))]
    if found.drawn is not None and found.drawn.refuted is not None:
        return [Remedy("labels drawn blind", "; ".join(found.obstacles))]
    if found.cause == attribution.SKY:
        return [
            Remedy(
                "none for the classifier",
                f"its mistakes are the same {place} and elsewhere, as far as these labels tell",
            ),
        ]
    if found.cause == attribution.UNDETERMINED:
        reach = stats.norm.isf(attribution.LEVEL / 2) + stats.norm.ppf(_POWER)
        asked = found.sky if found.declared and found.sky is not None else found.alone
        smallest = float(reach * asked.error)
        return [
            Remedy(
                "more labels",
                f"with {found.inside.labels:,} {place} and {found.outside.labels:,} elsewhere the "
                f"smallest difference of the sky found with {_POWER:.0%} power is {smallest:.4f}; "
                "four times as many halve it",
            )
        ]
    equal = " and ".join(name for name, _ in found.p_equal)
    doubt = f", at equal {equal} too" if equal else ", unless other galaxies lie there"
    mistaken = found.p_rates is not None and found.p_rates < attribution.LEVEL
    # Where a cause is named without other mistakes, it is for objects without an answer.
    leaves = found.p_kinds is not None and found.p_kinds < attribution.LEVEL and not mistaken
    does = "leaves other objects without an answer" if leaves else "makes other mistakes"
    balanced = Remedy(
        "sky-balanced training set",
        f"the classifier {does} {place} than elsewhere{doubt}: train it on both in equal parts",
    )
    if leaves:
        return [balanced]
    missed = fall(f"true {answer} objects", "missed", found.inside.tpr, found.outside.tpr)
    confused = fall("others", f"taken for {answer}", found.inside.tnr, found.outside.tnr)
    if missed is None or confused is None:
        return [balanced]
    return [balanced, *_of_images(missed, confused, place, blurring)]


def _of_images(missed: Fall, confused: Fall, place: str, blurring: tuple[str, ...]) -> list[Remedy]:
    """Return what both rates ask for beyond a balanced training set."""
    if missed.sign == confused.sign == 0:
        return []
    first, other = sorted((missed, confused), key=lambda rate: -abs(rate.sign * rate.value))
    where = place if first.sign > 0 else f"elsewhere than {place}"
    told = f"{first.kind} more often {where} (by {_size(first, first.sign)})"
    depends = f"answers depend on {', '.join(blurring)}" if blurring else ""
    if first.sign == other.sign:
        both = f"{told}, and {other.kind} more often as well (by {_size(other, first.sign)})"
        return [
            Remedy(
                "background augmentation",
                f"{both}: vary background, noise and point spread in training",
            )
        ]
    if other.sign and not blurring:
        return []
    if other.sign:
        lean = f"{told}, and {other.kind} less often (by {_size(other, -first.sign)})"
        return [
            Remedy(
                "de-biasing loss",
                f"{lean}: the classifier leans to one answer there, and {depends}, so structure "
                "may be lost",
            )
        ]
    if other.spared(first):
        why = f"{told}, and {other.kind} no more than elsewhere (by {_size(other, first.sign)}): "
        why += f"structure is lost, if {first.who} are what shows it"
        return [Remedy("de-biasing loss", f"{why}; {depends}" if blurring else why)]
    return [
        Remedy(
            "more labels",
            f"{told}; whether {other.kind} more often as well (by {_size(other, first.sign)}) they "
            "do not say, which tells lost structure (de-biasing loss) from other images "
            "(background augmentation)",
        )
    ]


def fall(who: str, what: str, inside: Rate, outside: Rate) -> Fall | None:
    """Compare a rate; None where one side has no labels of the class.

    The interval is Newcombe's (1998, Statistics in Medicine 17, 873, method 10) from both 95%
    intervals of the rates.
    """
    a, b = inside.value, outside.value
    if a is None or b is None:
        return None
    value = b - a
    low = value - hypot(b - outside.low, inside.high - a)
    high = value + hypot(outside.high - b, a - inside.low)
    p = (inside.n * a + outside.n * b) / (inside.n + outside.n)
    error = np.sqrt(p * (1 - p) * (1 / inside.n + 1 / outside.n))
    sure = error > 0 and abs(value) >= stats.norm.isf(attribution.LEVEL) * error
    return Fall(who, what, value, low, high, int(np.sign(value)) if sure else 0)


def _size(rate: Fall, sign: int) -> str:
    """Return a fall and its interval in points, as seen from where it is expected."""
    low, high = sorted((sign * rate.low, sign * rate.high))
    return f"{sign * rate.value:+.4f} [{low:+.4f}, {high:+.4f}]"
