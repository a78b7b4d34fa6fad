"""A graph of ONNX as it is written: placeholders of the scan become ONNX's own operator, names and facts are set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mambaad.ops.routed_scan.onnx_scan import RECURRENCE

DOMAIN, PLACEHOLDER = RECURRENCE.split("::")


def with_scans(proto: Any) -> None:
    """Replace every placeholder in a model by a Scan.

    The body is `recurrence` of `mambaad.ops.routed_scan.onnx_scan`, a step: the state comes in and goes out, the
    rates of decay are taken from around it.
    """
    from onnx import TensorProto, helper

    for node in proto.graph.node:
        if (node.domain, node.op_type) != (DOMAIN, PLACEHOLDER):
            continue
        start, rate, *steps = node.input
        (y,) = node.output
        # names of a body may not repeat names around it
        size, drive, write, read, before, after, read_out = (
            f"{y}_{name}" for name in ("delta", "drive", "B", "C", "h_before", "h_after", "y_t")
        )
        scaled, decay, kept, new = (f"{y}_{name}" for name in ("scaled", "decay", "kept", "new"))
        body = helper.make_graph(
            [
                helper.make_node("Mul", [size, rate], [scaled]),
                helper.make_node("Exp", [scaled], [decay]),
                helper.make_node("Mul", [decay, before], [kept]),
                helper.make_node("Mul", [drive, write], [new]),
                helper.make_node("Add", [kept, new], [after]),
                helper.make_node("MatMul", [read, after], [read_out]),
            ],
            f"{y}_step",
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
                for name in (before, size, drive, write, read)
            ],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (after, read_out)],
        )
        scan = helper.make_node("Scan", [start, *steps], [f"{y}_last", y], name=node.name, body=body, num_scan_inputs=4)
        node.CopyFrom(scan)
    used = {node.domain for node in proto.graph.node}
    others = [entry for entry in proto.opset_import if entry.domain in used]
    del proto.opset_import[:]
    proto.opset_import.extend(others)


def label(proto: Any, side: int, facts: Mapping[str, Any]) -> None:
    """Name the batch, and keep the image side and other facts in the file."""
    from onnx import helper

    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del proto.graph.value_info[:]  # speaks of the batch by another name
    helper.set_model_props(proto, {"side": str(side), **{name: str(fact) for name, fact in facts.items()}})
