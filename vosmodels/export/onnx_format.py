"""Write a step graph in the format of ONNX, and store its weights in fewer bytes."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vosmodels.errors import InputError
from vosmodels.export.families import FrameGraph

OPSET = 18
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
FEW = 1024  # numbers of a tensor that is stored as it is: a bias, a constant
LEVELS = 127  # of an int8 weight to each side of 0


def check_installed() -> None:
    """Raise InputError where a package of the extra `onnx` is not installed."""
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        raise InputError(
            f"--format onnx: {', '.join(absent)} not installed; pip install 'vos-distill[onnx]'"
        )


def write_onnx(graph: FrameGraph, examples: Sequence[Tensor], precision: str) -> bytes:
    """Return a graph as an ONNX file with named inputs and outputs, of the examples' shapes.

    precision: how weights are stored, fp32, fp16 or int8; they are computed with in float32.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter about itself
        program = torch.onnx.export(
            graph.eval(),
            tuple(examples),
            dynamo=True,
            opset_version=OPSET,
            input_names=graph.inputs,
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
    """Replace the large float32 weights of a graph by smaller tensors and a node that restores."""
    from onnx import TensorProto, numpy_helper

    graph, nodes = model.graph, []
    large = [
        tensor
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT and int(np.prod(tensor.dims)) > FEW
    ]
    for tensor in large:
        added, node = smaller(tensor.name, numpy_helper.to_array(tensor))
        graph.initializer.remove(tensor)
        graph.initializer.extend(added)
        nodes.append(node)
    first = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *first])


def _halves(name: str, weight: Any) -> tuple[list[Any], Any]:
    from onnx import TensorProto, helper, numpy_helper

    stored = numpy_helper.from_array(weight.astype(np.float16), f"{name}.half")
    return [stored], helper.make_node("Cast", [stored.name], [name], to=TensorProto.FLOAT)


def _bytes(name: str, weight: Any) -> tuple[list[Any], Any]:
    """Round a weight to int8 with a scale for each of its first axis: w = scale * q."""
    from onnx import helper, numpy_helper

    axes = tuple(range(1, weight.ndim))
    scale = np.maximum(np.abs(weight).max(axes) / LEVELS, np.finfo(np.float32).tiny)
    shaped = scale.reshape(-1, *(1 for _ in axes))
    rounded = np.clip(np.round(weight / shaped), -LEVELS, LEVELS).astype(np.int8)
    stored = [
        numpy_helper.from_array(rounded, f"{name}.int8"),
        numpy_helper.from_array(scale.astype(np.float32), f"{name}.scale"),
        numpy_helper.from_array(np.zeros(len(scale), np.int8), f"{name}.zero"),
    ]
    node = helper.make_node("DequantizeLinear", [t.name for t in stored], [name], axis=0)
    return stored, node
