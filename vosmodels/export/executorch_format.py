"""Write a step graph in the format of ExecuTorch, for its kernels for CPUs (XNNPACK)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from vosmodels.export.families import FrameGraph
from vosmodels.export.formats import Precision


def write_executorch(
    graph: FrameGraph, examples: Mapping[str, Tensor], precision: Precision
) -> bytes:
    """Return a graph as an ExecuTorch program with the method `forward`.

    A program's inputs and outputs have places alone: two more methods, `inputs` and `outputs`, tell
    their names in order, with commas. examples: inputs of its shapes, in order; precision: fp32,
    which alone the format offers.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    assert precision == "fp32"
    names = {"inputs": ",".join(examples), "outputs": ",".join(graph.outputs)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        exported = torch.export.export(graph.eval(), tuple(examples.values()))
        lowered = to_edge_transform_and_lower(
            exported, partitioner=[XnnpackPartitioner()], constant_methods=names
        )
        return bytes(lowered.to_executorch().buffer)
