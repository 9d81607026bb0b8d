"""Write a step graph in the format of LiteRT, and store its weights in fewer bytes."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from vosmodels.export.families import FrameGraph
from vosmodels.export.formats import Precision


class _Named(nn.Module):
    """A graph that takes and returns tensors by name, as LiteRT's signature then does."""

    def __init__(self, frame_graph: FrameGraph) -> None:
        super().__init__()
        self.frame_graph = frame_graph  # not `graph`, which an exported module has itself

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        outputs = self.frame_graph(*(inputs[name] for name in self.frame_graph.inputs))
        return dict(zip(self.frame_graph.outputs, outputs, strict=True))


def write_litert(graph: FrameGraph, examples: Mapping[str, Tensor], precision: Precision) -> bytes:
    """Return a graph as a LiteRT file, whose one signature names inputs and outputs.

    examples: inputs of its shapes, in order; precision: how weights are stored; they are computed
    with in float32.
    """
    import litert_torch
    from litert_torch import fx_infra

    litert_torch.config.show_progress = False
    fx_infra.decomp.add_pre_convert_decomp(torch.ops.aten.expand.default, _repeated)
    with warnings.catch_warnings(), TemporaryDirectory() as place:
        warnings.simplefilter("ignore")  # of the converter about itself
        program = litert_torch.convert(_Named(graph).eval(), sample_kwargs=dict(examples))
        path = Path(place) / "graph.tflite"
        program.export(str(path))
        return path.read_bytes() if precision == "fp32" else _stored(path, precision)


def _repeated(x: Tensor, size: Sequence[int], *, implicit: bool = False) -> Tensor:
    """Compute `x.expand(size)` by concatenation.

    litert-torch 0.10 moves axes of a map to where LiteRT has them, but not the counts of a
    broadcast: it converts to other numbers, or to a graph that cannot be allocated.
    """
    x = x.reshape([1] * (len(size) - x.dim()) + list(x.shape))
    for axis, count in enumerate(size):
        if count not in (-1, x.shape[axis]):
            x = torch.cat([x] * count, axis)
    return x


def _stored(path: Path, precision: Precision) -> bytes:
    """Return a LiteRT file with its weights stored in fewer bytes."""
    from ai_edge_quantizer import qtyping, quantizer, recipe

    quantiser = quantizer.Quantizer(str(path))
    if precision == "int8":
        quantiser.load_quantization_recipe(recipe.weight_only_wi8_afp32())
    else:
        quantiser.update_quantization_recipe(
            regex=".*",
            operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
            op_config=qtyping.OpQuantizationConfig(
                weight_tensor_config=qtyping.TensorQuantizationConfig(
                    num_bits=16, dtype=qtyping.TensorDataType.FLOAT
                ),
                compute_precision=qtyping.ComputePrecision.FLOAT,
                explicit_dequantize=True,
            ),
            algorithm_key="float_casting",
        )
    with contextlib.redirect_stdout(io.StringIO()):  # it prints sizes
        smaller: Any = quantiser.quantize().quantized_model
    return bytes(smaller)
