"""The card of a bundle: what people should know before they use it, written from its manifest."""

from __future__ import annotations

from catalogs.schema import PROBABILITY_PREFIX
from export.manifest import (
    PARITY_TILES,
    SKY,
    Comparison,
    Foreign,
    Limits,
    Manifest,
    Metric,
    Provenance,
)
from export.parity.told import told_apart, told_few

NETWORKS = {
    "shamir": """\
The network is the one of
Dhar & Shamir 2022 (Astronomy and Computing 38, 100545, section 2.1): five convolutions, four
max-poolings, dense layers; widths and kernels are this package's choice.""",
    "dieleman": """\
The network is the one of
Dieleman, Willett & Dambre 2015 (MNRAS 450, 1441, section 7): four convolutions over 16 viewpoints
of the galaxy, maxout layers.""",
    "resnet50": """\
The network is ResNet-50
with a further dense layer, as in Medina-Rosales & Cabrera-Vives 2021, section 3.2; the input size
is this package's choice.""",
    "resnet101": """\
The network is ResNet-101
with a further dense layer, as in Medina-Rosales & Cabrera-Vives 2021, section 3.2; the input size
is this package's choice.""",
    "deepgalaxy": """\
The network is Deep Galaxy
V2 (Khalifa et al. 2018, doi 10.1109/ICCSE1.2018.8374210): one convolution, two dense layers; all
sizes but its 96 filters are this package's choice.""",
    "equivariant": """\
The network is a small
residual network of group convolutions over the eight symmetries of the square (after Cohen &
Welling 2016): a galaxy turned by 90 degrees or mirrored gets the same answer.""",
}


def card(manifest: Manifest) -> str:
    """Return the card as Markdown; all that it says comes from the manifest.

    Its ``files`` need not be complete; whether the table of tiles is among them counts.
    """
    provenance = manifest.provenance
    parts = [
        f"# {manifest.name}",
        _what(manifest),
        "## Answers",
        _answers(manifest),
        "## Input",
        _input(manifest),
        "## Training",
        *(
            _foreign(provenance)
            if isinstance(provenance, Foreign)
            else _trained(provenance, manifest.labels)
        ),
        "## Measured",
        *_measured(manifest),
        "## Equal to what it was made from",
        *_parity(manifest),
        "## Not for",
        _not_for(manifest),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what(manifest: Manifest) -> str:
    if isinstance(manifest.provenance, Foreign):
        network = f"The network is `{manifest.provenance.model}`, which skytally did not train."
    else:
        model = str(manifest.provenance.settings.get("model"))
        network = NETWORKS.get(model, f"The network is its trainer's own, `{model}`.")
    if manifest.tree is None:
        return f"Tells {' from '.join(manifest.labels)} galaxies in colour cutouts. {network}"
    tree = manifest.tree
    return (
        f"Answers the {len(tree.questions)} questions of {tree.title or tree.name} "
        f"about galaxies in colour cutouts. {network}"
    )


def _answers(manifest: Manifest) -> str:
    spiral = (
        "No answer of it means spiral."
        if manifest.spiral is None
        else f"A galaxy is\ncalled spiral from `{manifest.spiral}` = {manifest.threshold:g} on."
    )
    if manifest.tree is not None:
        rows = "\n".join(
            f"| {q.name} | {text.text} | {', '.join(f'`{a}`' for a in q.answers)} |"
            for q, text in zip(manifest.questions, manifest.tree.questions, strict=True)
        )
        parts = [f"{PROBABILITY_PREFIX}{name}" for name in manifest.tree.spiral]
        summed = f"`{manifest.spiral}` is {' + '.join(f'`{part}`' for part in parts)}. "
        summed = summed if parts and manifest.spiral not in (None, *parts) else ""
        return f"""\
Each is the share of all volunteers that gives the answer: a question is asked of those whom the
answer before it leads there. {summed}{spiral}

| question | | answers |
|---|---|---|
{rows}"""
    names = ", ".join(f"`{answer}`" for answer in manifest.answers)
    if isinstance(manifest.provenance, Foreign):
        return f"{names}: as the network gives them. {spiral}"
    theta = manifest.provenance.settings.get("theta")
    if theta is not None:
        return f"""\
{names}: probabilities of the true class, had every galaxy been resolved: labels that call a disk
smooth with exp(-alpha^2 / (2 theta^2)), theta = {theta:.3g}, are allowed for (Medina-Rosales &
Cabrera-Vives 2021). They are not calibrated, and measured below against the labels as they are.
{spiral}"""
    return f"""\
{names}: probabilities under
the training survey's mix of classes (below), calibrated on the validation galaxies. {spiral}"""


def _input(manifest: Manifest) -> str:
    contract, framing = manifest.input, manifest.provenance.framing
    foreign = isinstance(manifest.provenance, Foreign)
    field = (
        f"{contract.crop} px of the survey's images, or a whole cutout that is smaller"
        if foreign
        else f"{contract.crop} px of the training survey's images, or the same field at any other "
        "size"
    )
    return f"""\
{contract.dtype} cutouts (n, height, width, {contract.channels}), red, green, blue: the central
{field}; the graph
scales it to {contract.trained_size} px. {framing or "How the galaxy is framed is not said."}
Galaxies in another framing get an answer as well, and a worse one."""


def _trained(provenance: Provenance, labels: list[str]) -> list[str]:
    regions = "; ".join(f"{name} from {text}" for name, text in provenance.regions.items())
    where = f"Training regions: {regions}." if regions else f"Training sky: `{SKY}`."
    names = labels or list(next(iter(provenance.counts.values()), {}))
    counts = "\n".join(
        f"| {role} | " + " | ".join(str(by_class[name]) for name in names) + " |"
        for role, by_class in provenance.counts.items()
    )
    origin = f"""\
Survey `{provenance.survey}`, column `{provenance.label_column}`, seed {provenance.seed},
skytally {provenance.code_version}, data fingerprint `{provenance.data_fingerprint[:16]}`.
{where}"""
    if provenance.votes:
        origin = origin.replace(f", column `{provenance.label_column}`", "")
    return [
        origin,
        f"| galaxies | {' | '.join(names)} |\n|---|{'---|' * len(names)}\n{counts}",
        f"Votes: {provenance.votes}." if provenance.votes else "",
        _averaged(provenance),
        provenance.credit,
    ]


def _averaged(provenance: Provenance) -> str:
    """Say of which networks and views the answers are means."""
    averaged = provenance.settings.get("averaged")
    members = averaged.get("members") if isinstance(averaged, dict) else None
    if not isinstance(averaged, dict) or not isinstance(members, list):
        return ""
    views, names = averaged.get("views"), "; ".join(map(str, members))
    return f"The answers are means over {views} views of each image, and over the runs {names}."


def _foreign(provenance: Foreign) -> list[str]:
    known = [
        f"Its contract says: {provenance.training}" if provenance.training else "",
        provenance.credit,
        f"Original: `{provenance.model}`, sha256 `{provenance.sha256}`.",
    ]
    unknown = """\
skytally has not seen the training. **Not known: on which sky, of which galaxies and under which
conditions it was trained, how its probabilities are calibrated, how often it is right.** An uneven
catalog cannot be traced to the training sky."""
    return [unknown, *known]


def _measured(manifest: Manifest) -> list[str]:
    provenance = manifest.provenance
    if isinstance(provenance, Foreign) or not manifest.metrics:
        return ["Nothing: there were no labelled galaxies apart from the training's."]
    split = provenance.settings.get("split")
    order = split.get("order") if isinstance(split, dict) else None
    rows = "\n".join(
        f"| {name.replace('_', ' ')} | {_interval(metric)} | {metric.n} |"
        for name, metric in manifest.metrics.items()
    )
    where = f"""\
On the test galaxies, in blocks of sky (HEALPix order {order}) from which nothing was trained,
chosen or calibrated; 95% intervals."""
    return [
        where,
        f"| measure | value | galaxies |\n|---|---|---|\n{rows}",
    ]


def _parity(manifest: Manifest) -> list[str]:
    if not manifest.parity:
        return ["Not compared."]
    rows = "\n".join(_compared(found) for found in manifest.parity)
    limits = "\n".join(
        dict.fromkeys(f"- {found.precision}: {_limits(found.limits)}" for found in manifest.parity)
    )
    calibrated = "\n".join(
        f"The {name} model took its ranges from {v.calibrated_on} galaxies of `{v.survey}`."
        for name, v in manifest.variants.items()
    )
    tiles = f"By tile of the sky: `{PARITY_TILES}`." if PARITY_TILES in manifest.files else ""
    table = f"""\
| precision, provider | with | cutouts (galaxies) | largest difference | other labels | shift |
|---|---|---|---|---|---|
{rows}"""
    few = "\n".join(f"- {what}" for what in told_few(manifest.parity))
    left_out = "\n".join(f"- {what}" for what in told_apart(manifest.not_compared))
    return [
        "Each cutout was answered by both; the shift of a fraction is given with its 95% interval.",
        table,
        f"**Few cutouts prove little**:\n\n{few}" if few else "",
        f"**Not compared** on the machine on which it was made:\n\n{left_out}" if left_out else "",
        f"Past these limits no bundle would have been written:\n\n{limits}",
        calibrated,
        tiles,
    ]


def _compared(found: Comparison) -> str:
    galaxies = "" if found.galaxies is None else f" ({found.galaxies} of `{found.source}`)"
    labels = sum(question.flips for question in found.questions.values())
    widest = max(found.shifts.items(), key=lambda item: item[1].bound, default=None)
    moved = "not measured"
    if widest is not None:
        name, s = widest
        moved = f"`{name}` {s.value:+.4f} ({s.low:+.4f} to {s.high:+.4f})"
    return (
        f"| {found.precision}, {found.provider} | {found.reference} | {found.cutouts}{galaxies} | "
        f"{found.difference:.1e} | {labels} | {moved} |"
    )


def _limits(limits: Limits) -> str:
    said = []
    if limits.difference is not None:
        said.append(f"a probability differs by at most {limits.difference:g}")
    if limits.confident_flips is not None:
        said.append("no label differs where the larger probability is .51 or more")
    if limits.flips is not None:
        said.append(f"less than {limits.flips:.1%} of the labels differ")
    if limits.shift is not None:
        said.append(f"the fraction shifts by less than {limits.shift:g}, by its interval's end")
    return "; ".join(said)


def _not_for(manifest: Manifest) -> str:
    others = (
        "- Mergers, irregulars, stars, artefacts and blank sky: they get one of the answers as "
        "well.\n"
        if manifest.tree is None
        else "- Blank sky and artefacts of the image: they get answers as well.\n"
    )
    finer = (
        "- The direction of spiral arms, bars, or any finer class.\n"
        if set(manifest.labels) == {"elliptical", "spiral"}
        else ""
    )
    return f"""\
- A spiral fraction of the Universe: labels made by eye follow what could be seen, so faint, small
  or blurred spirals are called elliptical. The answers inherit that, and follow seeing, depth and
  background; audit a map of them before believing it.
{others}- Single objects whose class matters; galaxies fainter or smaller than the training sample;
  other bands, or single-band images.
{finer}""".rstrip()


def _interval(metric: Metric) -> str:
    return f"{metric.value:.3f} ({metric.low:.3f} to {metric.high:.3f})"
