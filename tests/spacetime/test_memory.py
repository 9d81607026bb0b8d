import numpy as np
import pytest
import torch

from vosmodels.spacetime import memory as memory_module
from vosmodels.spacetime.memory import (
    affinity,
    aggregate,
    compete,
    kept_frames,
    read_memory,
    readout,
)
from vosmodels.support.seeding import generator


def _keys(*, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = generator(0, "memory test")
    memory = torch.randn(2, 8, 3, 3, 4, generator=rng, dtype=torch.float64) * scale
    query = torch.randn(2, 8, 3, 4, generator=rng, dtype=torch.float64) * scale
    return memory, query


def _distances(memory: torch.Tensor, query: torch.Tensor) -> np.ndarray:
    """-|k_q - k_m|^2 / sqrt(C), by loops over pairs: (B, hw, THW)."""
    m, q = memory.flatten(2).numpy(), query.flatten(2).numpy()
    table = np.empty((m.shape[0], q.shape[2], m.shape[2]))
    for b, i, j in np.ndindex(table.shape):
        table[b, i, j] = -np.sum((q[b, :, i] - m[b, :, j]) ** 2) / np.sqrt(m.shape[1])
    return table


def test_affinity_is_the_softmax_of_negative_squared_distances():
    memory, query = _keys()
    weights = np.exp(_distances(memory, query))
    weights /= weights.sum(2, keepdims=True)
    torch.testing.assert_close(affinity(memory, query), torch.from_numpy(weights))


def test_affinity_top_k_keeps_the_nearest_entries_and_sums_to_one():
    memory, query = _keys()
    scores = _distances(memory, query)
    weights = np.zeros_like(scores)
    for b, i in np.ndindex(scores.shape[:2]):
        nearest = np.argsort(scores[b, i])[-5:]
        weights[b, i, nearest] = np.exp(scores[b, i, nearest])
    weights /= weights.sum(2, keepdims=True)
    torch.testing.assert_close(affinity(memory, query, top_k=5), torch.from_numpy(weights))


def test_affinity_reads_everything_when_the_memory_is_smaller_than_top_k():
    memory, query = _keys()
    torch.testing.assert_close(affinity(memory, query, top_k=999), affinity(memory, query))


def _rows(memory: torch.Tensor, query: torch.Tensor) -> dict[str, torch.Tensor]:
    """Query, keys and squares of the first clip, one row an entry, as read_memory takes them."""
    keys = memory[0].flatten(1).T.contiguous()
    flat = query[0].flatten(1).T.contiguous()
    return {"query": flat, "keys": keys, "squares": keys.square().sum(1)}


@pytest.mark.parametrize("chunk", [5, 12, 999])
@pytest.mark.parametrize("top_k", [None, 1, 5, 999])
def test_reading_in_chunks_equals_the_dense_product(
    monkeypatch: pytest.MonkeyPatch, top_k: int | None, chunk: int
):
    monkeypatch.setattr(memory_module, "QUERY_CHUNK", chunk)
    memory, query = _keys()
    values = torch.randn(1, 3, 6, 3, 3, 4, generator=generator(1, "values"), dtype=torch.float64)
    dense = readout(affinity(memory[:1], query[:1], top_k), values)  # (1, N, C, h, w)
    rows = values[0].flatten(2).permute(2, 0, 1).flatten(1)  # (THW, N*C)
    read = read_memory(**_rows(memory, query), values=rows, top_k=top_k)
    torch.testing.assert_close(read.T, dense[0].flatten(2).flatten(0, 1))


@pytest.mark.parametrize("top_k", [None, 4])
def test_affinity_survives_scores_beyond_the_range_of_exp(top_k: int | None):
    memory, query = _keys(scale=1e3)
    weights = affinity(memory.float(), query.float(), top_k)
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 12))


@pytest.mark.parametrize("top_k", [None, 4])
def test_reading_survives_scores_beyond_the_range_of_exp(top_k: int | None):
    memory, query = _keys(scale=1e3)
    rows = _rows(memory.float(), query.float())
    torch.testing.assert_close(
        read_memory(**rows, values=torch.ones(36, 2), top_k=top_k), torch.ones(12, 2)
    )


@pytest.mark.parametrize("top_k", [None, 4])
def test_half_precision_values_are_weighed_by_full_precision_scores(top_k: int | None):
    rows = _rows(*_keys())
    values = torch.randn(36, 8, generator=generator(1, "values"), dtype=torch.float64)
    exact = read_memory(**rows, values=values, top_k=top_k)
    single = {name: row.float() for name, row in rows.items()}
    half = read_memory(**single, values=values.bfloat16(), top_k=top_k)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), exact, atol=0.02, rtol=0.02)


def test_readout_is_the_weighted_sum_of_values_for_every_object():
    memory, query = _keys()
    weights = affinity(memory, query)
    values = torch.randn(2, 3, 6, 3, 3, 4, generator=generator(1, "values"), dtype=torch.float64)
    expected = np.einsum("bqm,bncm->bncq", weights.numpy(), values.flatten(3).numpy())
    torch.testing.assert_close(readout(weights, values).flatten(3), torch.from_numpy(expected))


def test_aggregate_makes_objects_compete_with_the_product_of_their_absences():
    p = torch.rand(2, 3, 4, 5, generator=generator(0, "p"), dtype=torch.float64).numpy()
    maps = np.concatenate([np.prod(1 - p, axis=1, keepdims=True), p], 1)
    odds = maps / (1 - maps)
    expected = odds / odds.sum(1, keepdims=True)  # softmax of log odds
    probabilities = aggregate(torch.from_numpy(p)).softmax(1)
    torch.testing.assert_close(probabilities, torch.from_numpy(expected).float())


@pytest.mark.parametrize("objects", [1, 2, 5])
def test_competing_by_odds_is_the_softmax_of_the_aggregate(objects: int):
    p = torch.rand(2, objects, 9, 7, generator=generator(objects, "p"))
    p[0, 0, :3], p[1, 0, :3] = 0, 1
    torch.testing.assert_close(compete(p), aggregate(p).softmax(1), atol=1e-6, rtol=1e-5)


def test_aggregate_is_bounded_and_finite_at_certainty_even_in_half_precision():
    certain = torch.tensor([0.0, 1.0], dtype=torch.float16).view(1, 2, 1, 1)
    logits = aggregate(certain)
    assert logits.dtype == torch.float32
    assert logits.abs().max() < 16.2
    assert logits.abs().min() > 15.9
    assert logits.softmax(1).argmax(1).item() == 2


def test_kept_frames_pins_the_first_and_drops_the_oldest_of_the_rest():
    assert kept_frames(1, 2) == [0]
    assert kept_frames(2, 2) == [0, 1]
    assert kept_frames(5, 2) == [0, 4]
    assert kept_frames(5, 3) == [0, 3, 4]
    assert kept_frames(5, None) == [0, 1, 2, 3, 4]
