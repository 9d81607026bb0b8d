"""Test which tests get which golden files."""

from pathlib import Path

from tests.conformance import golden

NAMES = {
    "golden_file": ["stcn_eval_5obj_B", "stcn_misc", "stcn_train_so_B"],
    "golden_aot_loss": ["aott_trainloss_C", "deaott_trainloss_prev_C"],
    "golden_aot_video": ["aott_A", "deaotl_newobj_B", "r50_deaotl_B"],
    "golden_aot_misc": ["aot_misc"],
}


def test_every_golden_file_goes_to_the_tests_of_one_family(tmp_path: Path):
    names = sorted(name for names in NAMES.values() for name in names)
    for name in [*names, "deaot_unknown_B", "others"]:
        (tmp_path / f"{name}.npz").touch()
    by_family = {f: [path.stem for path in golden.found(tmp_path, f)] for f in golden.FAMILIES}
    assert by_family == NAMES
    assert [path.stem for path in golden.found(tmp_path)] == names


def test_a_golden_file_is_required_by_its_name_or_its_pattern(tmp_path: Path):
    files = [tmp_path / f"{name}.npz" for name in ("stcn_eval_5obj_B", "deaott_trainloss_C")]
    assert [golden.pattern(path) for path in files] == ["stcn_eval_5obj", "deaott_trainloss"]
    assert golden.missing(["eval_5obj", "stcn_eval_5obj_B", "deaott_trainloss"], files) == []
    assert golden.missing(["eval", "deaott"], files) == ["eval", "deaott"]
