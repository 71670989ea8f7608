"""The card of a bundle: what people should know before they use it, written from its manifest."""

from __future__ import annotations

from export.bundle import Manifest, Metric

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
    """Return the card as Markdown; every number comes from the manifest."""
    provenance, contract = manifest.provenance, manifest.input
    rows = "\n".join(
        f"| {name.replace('_', ' ')} | {_interval(metric)} | {metric.n} |"
        for name, metric in manifest.metrics.items()
    )
    counts = "\n".join(
        f"| {role} | " + " | ".join(str(by_class[label]) for label in manifest.labels) + " |"
        for role, by_class in provenance.counts.items()
    )
    network = NETWORKS.get(str(provenance.settings.get("model")), "")
    split = provenance.settings.get("split")
    order = split.get("order") if isinstance(split, dict) else None
    variants = "".join(
        f"\nThe {name} model against the fp32 model on {v.images} galaxies of `{v.survey}` that it "
        f"was not\ncalibrated on: {v.label_differences} labels differ, largest difference of a "
        f"probability {v.max_abs_difference:.1e}.\n"
        for name, v in manifest.variants.items()
    )
    regions = "; ".join(f"{name} from {text}" for name, text in provenance.regions.items())
    return f"""# {manifest.name}

Tells {" from ".join(manifest.labels)} galaxies in colour cutouts. {network}

## Answers

{", ".join(f"`{answer}`" for answer in manifest.answers)}: probabilities under
the training survey's mix of classes (below), calibrated on the validation galaxies. A galaxy is
called spiral from `{manifest.spiral}` = {manifest.threshold:g} on.

## Input

{contract.dtype} cutouts (n, height, width, {contract.channels}), red, green, blue: the central
{contract.crop} px of the training survey's images, or the same field at any other size; the graph
scales it to {contract.trained_size} px. {provenance.framing}
Galaxies in another framing get an answer as well, and a worse one.

## Training

Survey `{provenance.survey}`, column `{provenance.label_column}`, seed {provenance.seed},
skytally {provenance.code_version}, data fingerprint `{provenance.data_fingerprint[:16]}`.
{f"Training regions: {regions}." if regions else "Training sky: `training_sky.moc.fits`."}

| galaxies | {" | ".join(manifest.labels)} |
|---|{"---|" * len(manifest.labels)}
{counts}

{provenance.credit}

## Measured

On the test galaxies, in blocks of sky (HEALPix order {order}) from which nothing was trained,
chosen or calibrated; 95% intervals.

| measure | value | galaxies |
|---|---|---|
{rows}

ONNX Runtime against torch on {manifest.parity.images} images: largest difference of
a probability {manifest.parity.max_abs_difference:.1e}.
{variants}
## Not for

- A spiral fraction of the Universe: labels made by eye follow what could be seen, so faint, small
  or blurred spirals are called elliptical. The answers inherit that, and follow seeing, depth and
  background; audit a map of them before believing it.
- Mergers, irregulars, stars, artefacts and blank sky: they get one of the two answers as well.
- Single objects whose class matters; galaxies fainter or smaller than the training sample; other
  bands, or single-band images.
- The direction of spiral arms, bars, or any finer class.
"""


def _interval(metric: Metric) -> str:
    return f"{metric.value:.3f} ({metric.low:.3f} to {metric.high:.3f})"
