"""Test the graphs in ExecuTorch: against the model, and by their names."""

import numpy as np
import pytest

from tests.export.graphs import export_tiny, follows_two_objects
from vosmodels.export.check import check
from vosmodels.spacetime.step_graph import BeginGraph, StepGraph

pytestmark = pytest.mark.slow
REASON = "for .venv-executorch/bin/python, of make install-executorch"
runtime = pytest.importorskip("executorch.runtime", reason=REASON)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("executorch")


def test_the_graphs_follow_a_video_as_the_model_does_with_a_late_object_too(place):
    ids = follows_two_objects(export_tiny(place, "executorch"))
    assert set(np.unique(ids)) > {0}


@pytest.mark.parametrize("objects", [1, 2])
def test_the_clip_of_a_folder_comes_out_as_the_model_answered(place, objects):
    assert check(export_tiny(place, "executorch", objects=objects), threads=1).passed


def test_a_program_tells_the_names_of_its_inputs_and_outputs(place):
    for kind, graph in (("begin", BeginGraph), ("step", StepGraph)):
        file = export_tiny(place, "executorch") / f"{kind}.pte"
        program = runtime.Runtime.get().load_program(file)
        for end in ("inputs", "outputs"):
            (names,) = program.load_method(end).execute([])
            assert names.split(",") == list(getattr(graph, end))
