"""Test the graphs in LiteRT: against the model, by their names, and without torch."""

import numpy as np
import pytest

from tests.export.graphs import export_tiny, follows_two_objects, segment_alone
from vosmodels.export.check import check
from vosmodels.spacetime.step_graph import BeginGraph, StepGraph

pytestmark = pytest.mark.slow
pytest.importorskip("litert_torch", reason="for .venv-litert/bin/python, of make install-litert")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("litert")


def test_the_graphs_follow_a_video_as_the_model_does_with_a_late_object_too(place):
    ids = follows_two_objects(export_tiny(place, "litert"))
    assert set(np.unique(ids)) > {0}


@pytest.mark.parametrize("objects", [1, 2])
def test_the_clip_of_a_folder_comes_out_as_the_model_answered(place, objects):
    assert check(export_tiny(place, "litert", objects=objects), threads=1).passed


def test_inputs_and_outputs_have_the_names_of_the_graphs(place):
    from ai_edge_litert.interpreter import Interpreter

    for kind, graph in (("begin", BeginGraph), ("step", StepGraph)):
        file = export_tiny(place, "litert") / f"{kind}.tflite"
        names = Interpreter(str(file)).get_signature_list()["serving_default"]
        assert set(names["inputs"]) == set(graph.inputs)
        assert set(names["outputs"]) == set(graph.outputs)


def test_a_folder_alone_segments_without_torch_and_without_this_package(place):
    segment_alone(export_tiny(place, "litert"))


@pytest.mark.parametrize(("precision", "share"), [("fp16", 0.6), ("int8", 0.4)])
def test_smaller_weights_take_fewer_bytes_and_change_few_pixels(place, precision, share):
    whole, smaller = export_tiny(place, "litert"), export_tiny(place, "litert", precision)
    assert bytes_of(smaller) < share * bytes_of(whole)
    assert check(smaller, threads=1).differing < 0.02


def bytes_of(out):
    return sum(path.stat().st_size for path in out.glob("*.tflite"))
