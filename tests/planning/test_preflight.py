"""Test which data the checks before a sweep ask for: that of every trial, not of the file alone."""

import pytest

from orchestrator.config import SweepConfig
from orchestrator.planning import preflight
from orchestrator.planning.paths import located
from tests.conftest import write_davis

LABEL_FREE = {"ce": 0.0, "logit": 1.0, "representation": 0.0, "sampling": "all"}


@pytest.fixture
def first_masks(tmp_path):
    """A DAVIS folder whose training videos have the mask of their first frame alone."""
    root = write_davis(tmp_path / "davis", 2016)
    for name in ("ant", "bee"):
        for path in sorted((root / "Annotations/480p" / name).iterdir())[1:]:
            path.unlink()
    return root


def check(root, swept, **changes):
    values = {
        "name": "free",
        "data": {"root": str(root), "select_height": 48},
        "loss": LABEL_FREE,
        "stem": {"steps": 0},
        "teacher": {"steps": 0},
        "train": {"steps": 2, "clip_length": 3, "crop": 32},
        "sweep": {"parameters": swept},
    }
    preflight.check(located(SweepConfig.model_validate(values | changes)))


def test_trials_that_read_no_labels_need_the_first_masks_alone(first_masks):
    check(first_masks, {"loss.tau": [0.1, 1.0]})
    check(first_masks, {"loss.ce": [0.0]}, loss={**LABEL_FREE, "ce": 1.0})


def test_one_trial_that_reads_labels_needs_them_all(first_masks):
    with pytest.raises(preflight.Missing, match="image without mask"):
        check(first_masks, {"loss.ce": [0.0, 1.0]})


def test_a_stem_of_labels_in_one_trial_needs_them_all(first_masks):
    check(first_masks, {"loss.tau": [0.1]}, stem={"steps": 0})
    with pytest.raises(preflight.Missing, match="image without mask"):
        check(first_masks, {"loss.tau": [0.1]}, stem={"steps": 1})
