"""The network alone: what a provider and a precision make of it."""

from __future__ import annotations

from benchmarks.inputs import Inputs
from benchmarks.measure import alone, session_rate
from benchmarks.rows_engine import note
from benchmarks.table import Row
from export.providers import available
from export.session import Precision

OPENVINO: tuple[tuple[str, Precision, float], ...] = (
    ("OpenVINO bf16 against the CPU provider's fp32, Shamir net", "bf16", 2.5),
    ("OpenVINO int8 against the CPU provider's fp32, Shamir net", "int8", 3.0),
)


def precisions(inputs: Inputs) -> list[Row]:
    """The CPU provider's int8 against its fp32, session alone."""
    row = Row("CPU provider, int8 against fp32, session alone")
    workers = inputs.sizes.workers
    for _ in range(inputs.sizes.turns):
        rates = {
            precision: alone("infer", inputs.survey, inputs.network, workers, precision)
            for precision in ("fp32", "int8")
        }
        row.turns.append(rates["int8"] / rates["fp32"])
        row.bound = f"fp32 in {workers} processes x 1 thread, {rates['fp32']:,.0f}/s"
        note(row, **rates)
    return [row]


def openvino(inputs: Inputs) -> list[Row]:
    """The plug-in provider, where it offers a device."""
    if "openvino" not in {provider.name for provider in available()}:
        missing = "the plug-in offers no device on this processor"
        return [Row(what, reach=reach, missing=missing) for what, _, reach in OPENVINO]
    return [_openvino(inputs, *row) for row in OPENVINO]


def _openvino(inputs: Inputs, what: str, precision: Precision, reach: float) -> Row:
    row = Row(what, reach=reach)
    for _ in range(inputs.sizes.turns):
        fp32 = session_rate(inputs.survey, inputs.network, "cpu", "fp32")
        other = session_rate(inputs.survey, inputs.network, "openvino", precision)
        row.turns.append(other / fp32)
        row.bound = f"CPU provider fp32, 2 threads, {fp32:,.0f}/s"
        note(row, fp32=fp32, openvino=other)
    return row
