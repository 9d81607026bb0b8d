"""Test which files and values are read as weights, and what the others are told."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import tarfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from vosmodels.errors import InputError
from vosmodels.support.tensors import check_values, read_weights_file

SOUND = {"a.weight": torch.arange(12.0).view(4, 3), "a.num_batches_tracked": torch.tensor(3)}
LARGEST = torch.finfo(torch.float32).max


def refusal(path: Path) -> str:
    """The one line that reading a file ends in."""
    with pytest.raises(InputError) as caught:
        read_weights_file(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert len(text.splitlines()) == 1
    return text


@pytest.mark.parametrize(
    "value",
    [
        torch.ones(2, dtype=torch.float16),
        torch.ones(2, dtype=torch.bfloat16),
        torch.tensor([LARGEST, -LARGEST], dtype=torch.float64),
        torch.zeros(0),
        torch.tensor(-0.0),
        torch.tensor(7, dtype=torch.int64),
        torch.ones(4)[::2],
        nn.Parameter(torch.ones(2)),
    ],
    ids=str,
)
def test_finite_floats_and_counters_are_weights(value: Tensor):
    check_values("x", {**SOUND, "odd": value})


@pytest.mark.filterwarnings("ignore")  # torch: quantized and sparse tensors are in beta
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: torch.tensor([1.0, torch.nan]), r"has NaN \(1 of 2\)"),
        (lambda: torch.tensor([torch.inf]), r"has infinite values \(1 of 1\)"),
        (lambda: torch.tensor([[1, -torch.inf]]).half(), r"has infinite values \(1 of 2\)"),
        (lambda: torch.full((2,), torch.nan).bfloat16(), r"has NaN \(2 of 2\)"),
        (lambda: torch.tensor([-4e38], dtype=torch.float64), r"has values out .* 4\.0e\+38"),
        (lambda: torch.ones(2, dtype=torch.int8), "is int8"),
        (lambda: torch.ones(2, dtype=torch.int64), "is int64"),
        (lambda: torch.ones(2, dtype=torch.uint16), "is uint16"),
        (lambda: torch.ones(2, dtype=torch.bool), "is bool"),
        (lambda: torch.tensor(True), "is bool"),
        (lambda: torch.ones(2, dtype=torch.complex64), "is complex64"),
        (lambda: torch.ones(2).to(torch.float8_e4m3fn), "is float8_e4m3fn"),
        (lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "is quantized"),
        (lambda: torch.eye(3).to_sparse(), "is torch.sparse_coo"),
        (lambda: torch.ones(2, device="meta"), "is on the device 'meta'"),
        (lambda: torch.ones(1).expand(10**12), "repeats its stored values"),
    ],
)
def test_what_a_network_cannot_compute_with_is_refused_by_name(
    make: Callable[[], Tensor], says: str
):
    with pytest.raises(InputError, match=rf"^x: 1 of 3 tensors .*: 'odd' {says}"):
        check_values("x", {**SOUND, "odd": make()})


def test_eight_tensors_are_named_and_the_rest_are_counted():
    odd = {f"t{n}": torch.tensor([torch.nan]) for n in range(11)}
    with pytest.raises(
        InputError, match=r"^x: 11 of 13 tensors .*'t7' has .*; and 3 more; give"
    ) as e:
        check_values("x", {**SOUND, **odd})
    assert "'t8'" not in str(e.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".SafeTensors", ".pth"])
def test_every_reader_refuses_values_that_are_no_weights(tmp_path: Path, suffix: str):
    path = tmp_path / f"odd{suffix}"
    state = {**SOUND, "odd": torch.tensor([1.0, torch.nan])}
    if suffix == ".pth":
        torch.save(state, path)
    else:
        safetensors.torch.save_file(state, path)
    assert "'odd' has NaN (1 of 2)" in refusal(path)


def header(entries: Any, body: bytes = b"\0" * 8, length: int | None = None) -> bytes:
    """A safetensors file with a header that a library would not write."""
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def entry(dtype: str = "F32", shape: tuple[int, ...] = (2,), offsets: tuple[int, ...] = (0, 8)):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    "data",
    [
        header({"a": entry()})[:-3],
        header({"a": entry()})[:20],
        header({"a": entry()})[:5],
        header({"a": entry()}, length=10**6),
        header({"a": entry()}, length=2**63),
        header({"a": entry(), "b": entry()}),
        header({"a": entry(offsets=(0, 4)), "b": entry(offsets=(2, 6))}),
        header({"a": entry(dtype="F99")}),
        header({"a": entry(dtype="F8_E5M2", shape=(8,))}),
        header({"a": entry(dtype="F4", shape=(16,))}),
        header({"a": entry(shape=(3,))}),
        header({"a": entry(shape=(2**40, 2**40))}),
        header({"a": entry(offsets=(8, 0))}),
        header({"a": entry(shape=(-2,))}),
        header([1]),
        header(b"{"),
        header(b"\xff\xfe{}"),
        header({}, b""),
        header({"a": entry()}) + b"more",
        b"PK\x03\x04 a zip",
        b"",
    ],
)
def test_a_damaged_safetensors_file_is_told_in_a_line(tmp_path: Path, data: bytes):
    path = tmp_path / "odd.safetensors"
    path.write_bytes(data)
    refusal(path)


def torch_file(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: torch_file(nn.Linear(2, 2)), "GLOBAL torch.nn.modules.linear.Linear"),
        (lambda: torch_file(SOUND)[:700], "not a readable torch file"),
        (lambda: torch_file(SOUND, _use_new_zipfile_serialization=False)[:300], ""),
        (tar, ""),
        (lambda: torch_file([torch.ones(2)]), "holds a list, not names with tensors"),
        (lambda: torch_file(torch.ones(2)), "holds a Tensor, not names with tensors"),
        (lambda: torch_file(None), "holds a NoneType, not names with tensors"),
        (lambda: torch_file({"a": {"b": torch.ones(2)}}), "a dict with a dict under 'a'"),
        (lambda: torch_file({3: torch.ones(2)}), "a dict with a Tensor under 3"),
        (lambda: torch_file(OrderedDict(a=1.5)), "a OrderedDict with a float under 'a'"),
        (lambda: torch_file({}), "holds no tensors"),
        (lambda: pickle.dumps({"a": 1}), ""),
        (lambda: b"<html>404 not found</html>", ""),
        (lambda: b"", "empty, 0 bytes"),
    ],
)
def test_a_torch_file_that_is_no_weights_is_told_in_a_line(
    tmp_path: Path, make: Callable[[], bytes], says: str
):
    path = tmp_path / "odd.pth"
    path.write_bytes(make())
    text = refusal(path)
    assert says in text
    assert text.isprintable()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_file_with_any_bytes_changed_is_read_or_told_in_a_line(
    tmp_path: Path, zipped: bool
):
    data = torch_file(SOUND, _use_new_zipfile_serialization=zipped)
    draw, path, refusals = random.Random(0), tmp_path / "odd.pth", 0
    for _ in range(400):
        changed = bytearray(data)
        for _ in range(draw.choice((1, 2, 5))):
            changed[draw.randrange(min(len(changed), 600))] = draw.randrange(256)
        path.write_bytes(changed)
        try:
            tensors = read_weights_file(path)
        except InputError as error:
            assert str(error).startswith(f"{path}: ")
            assert len(str(error).splitlines()) == 1
            refusals += 1
        else:
            check_values(path, tensors)
    assert refusals > 100


def test_a_bare_file_named_by_a_sha256_must_match_it(tmp_path: Path):
    path = tmp_path / f"{'0' * 64}.pth"
    torch.save(SOUND, path)
    assert "corrupt: its sha256 is" in refusal(path)
