import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from tests.model_tools import network, textured_clip
from vosmodels.checkpoint import (
    CheckpointInfo,
    content_in,
    content_of,
    halved,
    load_model,
    load_weights,
    read_info,
    read_layout,
    read_tensors,
    write,
)
from vosmodels.errors import InputError
from vosmodels.model import VideoModel

STUDENT = "mobilevos_mobilenetv2_noaspp"


@pytest.fixture(scope="module")
def model() -> VideoModel:
    return network(STUDENT, seed=3)


@pytest.fixture
def info(model: VideoModel) -> CheckpointInfo:
    return CheckpointInfo.of(model, ancestor="ab" * 32, step=40, scores={"jf": 0.5, "j": 0.25})


@pytest.fixture
def written(tmp_path: Path, model: VideoModel, info: CheckpointInfo) -> Path:
    return write(tmp_path / "checkpoints", model.state_dict(), info)[0]


def _same(a: VideoModel, b: VideoModel) -> bool:
    other = b.state_dict()
    return all(torch.equal(value, other[key]) for key, value in a.state_dict().items())


def _save(path: Path, tensors: dict[str, Tensor], vos: Any = None) -> Path:
    metadata = None if vos is None else {"vos": vos if isinstance(vos, str) else json.dumps(vos)}
    safetensors.torch.save_file(tensors, path, metadata=metadata)
    return path


def test_a_checkpoint_comes_back_as_it_was_written(
    written: Path, model: VideoModel, info: CheckpointInfo
):
    tensors = read_tensors(written)
    assert read_info(written) == info
    assert tensors.keys() == model.state_dict().keys()
    assert all(torch.equal(v, tensors[key]) for key, v in model.state_dict().items())


def test_a_checkpoint_builds_its_own_model(written: Path, model: VideoModel):
    loaded = load_model(str(written))
    assert (loaded.name, loaded.training) == (STUDENT, False)
    assert loaded.config == model.config
    assert _same(loaded, model)
    with torch.no_grad():
        clip = textured_clip(clips=1, size=32)
        assert torch.equal(loaded(clip).logits, model(clip).logits)


def test_the_content_in_a_file_is_that_of_its_model_whatever_its_step_and_scores(
    written: Path, tmp_path: Path, model: VideoModel
):
    other = CheckpointInfo.of(model, ancestor=None, step=1)
    again = write(tmp_path / "other", model.state_dict(), other)[0]
    assert content_in(written) == content_in(again) == content_of(model)
    assert content_of(network(STUDENT, seed=4)) != content_of(model)


def test_the_file_is_named_by_its_sha256_and_carries_canonical_json(written: Path):
    assert written.name == f"{hashlib.sha256(written.read_bytes()).hexdigest()}.safetensors"
    with safetensors.safe_open(written, framework="pt") as file:
        metadata = file.metadata()
    assert list(metadata) == ["vos"]
    text = metadata["vos"]
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert set(json.loads(text)) == {"name", "config", "ancestor", "step", "scores", "version"}


def test_equal_content_is_one_file_and_is_not_written_again(
    written: Path, model: VideoModel, info: CheckpointInfo
):
    before = written.stat()
    shuffled = dict(reversed(model.state_dict().items()))
    path, sha256 = write(written.parent, shuffled, info)
    assert (path, sha256) == (written, written.stem)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    other = write(written.parent, shuffled, CheckpointInfo.of(model, ancestor=None, step=41))[0]
    assert other != written
    assert len(list(written.parent.iterdir())) == 2


def test_an_interrupted_write_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: VideoModel, info: CheckpointInfo
):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"No space left"):
        write(tmp_path / "checkpoints", model.state_dict(), info)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_scores_that_are_not_numbers_are_refused(tmp_path: Path, model: VideoModel):
    info = CheckpointInfo.of(model, ancestor=None, step=0, scores={"jf": float("nan")})
    with pytest.raises(ValueError, match="nan"):
        write(tmp_path, model.state_dict(), info)


def test_a_half_has_half_the_bytes_and_reads_as_the_rounded_weights_in_float32(
    tmp_path: Path, written: Path, model: VideoModel, info: CheckpointInfo
):
    path = tmp_path / "half.safetensors"
    path.write_bytes(halved(written))
    assert 0.49 < path.stat().st_size / written.stat().st_size < 0.55  # names and counters stay
    assert read_info(path) == info
    expected = {
        key: value.half().float() if value.is_floating_point() else value
        for key, value in model.state_dict().items()
    }
    other = network(STUDENT, seed=9)
    load_weights(other, path)
    for tensors in (read_tensors(path), load_model(path).state_dict(), other.state_dict()):
        for key, value in expected.items():
            assert tensors[key].dtype == value.dtype
            assert torch.equal(tensors[key], value)
    assert halved(path) == path.read_bytes()
    assert read_layout(path) == read_layout(written)


def test_a_half_of_values_beyond_float16_is_refused_by_their_names(
    tmp_path: Path, model: VideoModel, info: CheckpointInfo
):
    state = {**model.state_dict(), "key_comp.bias": torch.full((64,), -65520.0)}
    path, _ = write(tmp_path, state, info)
    with pytest.raises(
        InputError, match=rf"{path}: 1 of \d+ tensors have no float16 values: 'key_"
    ):
        halved(path)
    state["key_comp.bias"].fill_(-65519.0)  # rounds to the largest
    path.write_bytes(halved(write(tmp_path, state, info)[0]))


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"absent\.safetensors: no such file"):
        read_tensors(tmp_path / "absent.safetensors")


def test_a_truncated_file_is_named(written: Path, tmp_path: Path):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(written.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"cut\.safetensors: not a readable safetensors"):
        read_tensors(cut)


def test_a_flipped_bit_is_found_by_the_name(written: Path):
    data = bytearray(written.read_bytes())
    data[-1] ^= 1
    written.write_bytes(bytes(data))
    with pytest.raises(InputError, match="corrupt: its sha256"):
        read_tensors(written)


def test_a_checkpoint_of_another_sha256_than_the_one_recorded_is_refused(
    tmp_path: Path, written: Path, model: VideoModel
):
    info = CheckpointInfo.of(model, ancestor=None, step=41)
    renamed = tmp_path / "best.safetensors"
    renamed.write_bytes(write(tmp_path, model.state_dict(), info)[0].read_bytes())
    for read in (read_tensors, load_model):
        read(renamed, hashlib.sha256(renamed.read_bytes()).hexdigest())
        with pytest.raises(InputError, match=rf"{renamed}: corrupt: .* not {written.stem[:12]}"):
            read(renamed, written.stem)


@pytest.mark.parametrize("content", [b"", b"cut short", None])
def test_a_corrupt_file_of_that_name_is_written_again(
    written: Path, model: VideoModel, info: CheckpointInfo, content: bytes | None
):
    sound = written.read_bytes()
    written.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]) if content is None else content)
    assert write(written.parent, model.state_dict(), info)[0] == written
    assert written.read_bytes() == sound


def test_weights_that_are_not_finite_are_not_written(
    tmp_path: Path, model: VideoModel, info: CheckpointInfo
):
    state = {**model.state_dict(), "key_comp.bias": torch.full((64,), torch.inf)}
    says = rf"'{STUDENT}' at step 40: .*'key_comp\.bias' has infinite values .*diverged"
    with pytest.raises(InputError, match=says):
        write(tmp_path / "new", state, info)
    assert not (tmp_path / "new").exists()


def test_bare_weights_are_told_which_model_they_fit(tmp_path: Path, model: VideoModel):
    path = _save(tmp_path / "bare.safetensors", dict(model.state_dict()))
    with pytest.raises(
        InputError, match=rf"bare\.safetensors: .*\(they fit the model '{STUDENT}'\)"
    ):
        load_model(path)


def test_a_checkpoint_whose_tensors_are_of_another_model_than_described_is_corrupt(
    tmp_path: Path, model: VideoModel
):
    info = CheckpointInfo.of(network("stcn_mobilenetv2", seed=0), ancestor=None, step=1)
    path = write(tmp_path, model.state_dict(), info)[0]
    with pytest.raises(InputError, match=rf"{path}: corrupt: described as 'stcn_mobilenetv2', but"):
        load_model(path)


def test_integers_where_a_model_has_floats_are_told(tmp_path: Path, model: VideoModel):
    name = next(key for key in model.state_dict() if key.endswith("num_batches_tracked"))
    path = _save(tmp_path / "odd.safetensors", {**model.state_dict(), name: torch.tensor(0.5)})
    with pytest.raises(InputError, match=rf"'{name}' is torch\.float32, wanted torch\.int64"):
        load_weights(network(STUDENT, seed=0), path)


def test_bare_weights_are_no_checkpoint(tmp_path: Path):
    path = _save(tmp_path / "bare.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(InputError, match=r"bare\.safetensors: weights without a description"):
        read_tensors(path)


DESCRIPTION: dict[str, Any] = {
    "name": "stcn",
    "config": {},
    "ancestor": None,
    "step": 1,
    "scores": {"jf": 0.5},
    "version": 1,
}


@pytest.mark.parametrize(
    "vos",
    [
        *("{", "[]", "[" * 100_000, {"version": 1, "name": "stcn"}),
        *({**DESCRIPTION, "name": 3}, {**DESCRIPTION, "config": [1]}),
        *(
            {**DESCRIPTION, "step": -1},
            {**DESCRIPTION, "step": "1"},
            {**DESCRIPTION, "ancestor": 1},
        ),
        *({**DESCRIPTION, "scores": {"jf": float("nan")}}, {**DESCRIPTION, "scores": {"jf": "1"}}),
    ],
    ids=lambda vos: str(vos)[:100],
)
def test_a_broken_description_is_named(tmp_path: Path, vos: Any):
    path = _save(tmp_path / "odd.safetensors", {"a": torch.zeros(1)}, vos)
    with pytest.raises(InputError, match=r"odd\.safetensors: corrupt description"):
        read_tensors(path)


def test_the_whole_description_is_read(tmp_path: Path):
    path = _save(tmp_path / "sound.safetensors", {"a": torch.zeros(1)}, DESCRIPTION)
    assert read_info(path) == CheckpointInfo(**DESCRIPTION)


def test_another_format_version_is_named(tmp_path: Path):
    path = _save(tmp_path / "new.safetensors", {"a": torch.zeros(1)}, {"version": 2})
    with pytest.raises(InputError, match=r"format 2; this version reads 1"):
        read_tensors(path)


def test_a_checkpoint_of_an_unknown_model_is_named(tmp_path: Path, model: VideoModel):
    info = CheckpointInfo("mobilevos_huge", {}, None, 0)
    path = write(tmp_path, model.state_dict(), info)[0]
    with pytest.raises(InputError, match=rf"{path.name}.*'mobilevos_huge': unknown"):
        load_model(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_bare_weights_load_into_a_model_that_is_named(
    tmp_path: Path, model: VideoModel, suffix: str
):
    path = tmp_path / f"bare{suffix}"
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("batches_tracked")}
    if suffix == ".pth":
        torch.save(state, path)
    else:
        _save(path, state)
    target = network(STUDENT, seed=9)
    assert load_weights(target, path) is None
    assert _same(target, model)


def test_a_checkpoint_loads_as_weights_whatever_its_training_options(
    tmp_path: Path, model: VideoModel
):
    other = network(STUDENT, seed=3, detach_feedback=True, queue=4)
    info = CheckpointInfo.of(other, ancestor=None, step=7)
    target = network(STUDENT, seed=9)
    assert load_weights(target, write(tmp_path, other.state_dict(), info)[0]) == info
    assert _same(target, model)


def test_weights_of_another_model_are_refused_by_both_names(written: Path):
    target = network("mobilevos_mobilenetv2", seed=0)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    message = rf"another model.*{STUDENT}.*'mobilevos_mobilenetv2'"
    with pytest.raises(InputError, match=message):
        load_weights(target, written)
    assert all(torch.equal(v, before[key]) for key, v in target.state_dict().items())


GONE, NEW = "key_comp.weight", "module.key_comp.weight"


@pytest.mark.parametrize(
    ("gone", "new", "says"),
    [
        (True, True, f"1 missing, first '{GONE}' (nearest there: '{NEW}'); 1 unknown, first"),
        (True, False, f"1 missing, first '{GONE}' (nearest there: 'key_comp.bias'); no model"),
        (False, True, f"1 unknown, first '{NEW}' (nearest wanted: '{GONE}'); no model"),
    ],
)
def test_keys_that_do_not_fit_are_named_with_the_nearest_and_nothing_is_loaded(
    tmp_path: Path, model: VideoModel, gone: bool, new: bool, says: str
):
    state = dict(model.state_dict())
    if new:
        state[NEW] = state[GONE].clone()
    if gone:
        del state[GONE]
    path = _save(tmp_path / "ddp.safetensors", state)
    target = network(STUDENT, seed=0)
    with pytest.raises(InputError) as caught:
        load_weights(target, path)
    assert says in str(caught.value)
    assert _same(target, network(STUDENT, seed=0))


def test_a_shape_that_does_not_fit_is_named(tmp_path: Path, model: VideoModel):
    state = {**model.state_dict(), "decoder.pred.bias": torch.zeros(2)}
    path = _save(tmp_path / "wide.safetensors", state)
    with pytest.raises(InputError, match=r"'decoder\.pred\.bias' has shape \(2,\), wanted \(1,\)"):
        load_weights(network(STUDENT, seed=0), path)


def test_an_option_that_changes_what_equal_shapes_mean_is_compared(tmp_path: Path):
    other = network("mobilevos_mobilenetv2", seed=0, aspp_rates=(2, 4, 6))
    path = write(tmp_path, other.state_dict(), CheckpointInfo.of(other, ancestor=None, step=0))[0]
    with pytest.raises(InputError, match=r"aspp_rates = \[2, 4, 6\].*\[6, 12, 18\]"):
        load_weights(network("mobilevos_mobilenetv2", seed=0), path)


def test_a_pickle_with_code_is_refused(tmp_path: Path, model: VideoModel):
    path = tmp_path / "whole_model.pth"
    torch.save(model, path)
    with pytest.raises(InputError, match=r"whole_model\.pth: refused.*state_dict"):
        load_weights(network(STUDENT, seed=0), path)


def test_four_channel_stcn_weights_grow_a_channel_of_zeros(tmp_path: Path):
    options = {"backbone": "mobilenet_v2", "value_channels": 16, "decoder_channels": (16, 16, 16)}
    source = network("stcn", seed=1, **options)
    state = dict(source.state_dict())
    stem = state["value_encoder.conv1.weight"]
    state["value_encoder.conv1.weight"] = stem[:, :4]
    torch.save({k: v.clone() for k, v in state.items()}, tmp_path / "static.pth")
    target = network("stcn", seed=2, **options)
    load_weights(target, tmp_path / "static.pth")
    grown = target.state_dict()["value_encoder.conv1.weight"]
    assert torch.equal(grown[:, :4], stem[:, :4])
    assert grown[:, 4].abs().max() == 0
