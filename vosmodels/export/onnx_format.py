"""Write a step graph in the format of ONNX, and store its weights in fewer bytes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vosmodels.export.families import FrameGraph
from vosmodels.export.formats import Precision

OPSET = 18
FEW = 1024  # numbers of a tensor that is stored as it is: a bias, a constant
LEVELS = 127  # of an int8 weight to each side of 0


def write_onnx(graph: FrameGraph, examples: Mapping[str, Tensor], precision: Precision) -> bytes:
    """Return a graph as an ONNX file with named inputs and outputs.

    examples: inputs of its shapes, in order; precision: how weights are stored; they are computed
    with in float32.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter about itself
        program = torch.onnx.export(
            graph.eval(),
            tuple(examples.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(examples),
            output_names=graph.outputs,
            verify=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    if precision != "fp32":
        _store(model, _halves if precision == "fp16" else _bytes)
    data: bytes = model.SerializeToString()
    return data


def _store(model: Any, smaller: Any) -> None:
    """Replace the large float32 weights of a graph by smaller tensors and nodes that restore them.

    These are of constants alone, so that a runtime computes them once, when it loads the graph. It
    would not compute DequantizeLinear: ONNX Runtime keeps that for int8 kernels, and so restores
    the weights in every step.
    """
    from onnx import TensorProto, numpy_helper

    graph, nodes = model.graph, []
    large = [
        tensor
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT and int(np.prod(tensor.dims)) > FEW
    ]
    for tensor in large:
        added, restoring = smaller(tensor.name, numpy_helper.to_array(tensor))
        graph.initializer.remove(tensor)
        graph.initializer.extend(added)
        nodes.extend(restoring)
    first = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *first])


def _halves(name: str, weight: Any) -> tuple[list[Any], list[Any]]:
    from onnx import TensorProto, helper, numpy_helper

    stored = numpy_helper.from_array(weight.astype(np.float16), f"{name}.half")
    return [stored], [helper.make_node("Cast", [stored.name], [name], to=TensorProto.FLOAT)]


def _bytes(name: str, weight: Any) -> tuple[list[Any], list[Any]]:
    """Round a weight to int8 with a scale for each of its first axis: w = scale * q."""
    from onnx import TensorProto, helper, numpy_helper

    axes = tuple(range(1, weight.ndim))
    scale = np.maximum(np.abs(weight).max(axes) / LEVELS, np.finfo(np.float32).tiny)
    shaped = scale.reshape(-1, *(1 for _ in axes))
    rounded = np.clip(np.round(weight / shaped), -LEVELS, LEVELS).astype(np.int8)
    stored = [
        numpy_helper.from_array(rounded, f"{name}.int8"),
        numpy_helper.from_array(shaped.astype(np.float32), f"{name}.scale"),
    ]
    whole = f"{name}.whole"
    nodes = [
        helper.make_node("Cast", [stored[0].name], [whole], to=TensorProto.FLOAT),
        helper.make_node("Mul", [whole, stored[1].name], [name]),
    ]
    return stored, nodes
