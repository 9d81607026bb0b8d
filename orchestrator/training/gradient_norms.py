"""Measure how much each term of a loss moves a student, and warn of what does nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from orchestrator.training.distill_step import Losses
from vosmodels.terms import Term

MEASURED = (1, 10, 100)  # steps of a training; the others cost nothing
# Times all other terms together. sweeps/omega.yaml loss.logit=1 loss.norm=n, steps 1 and 10: the
# paper's tau = 0.1 makes the logit loss 7 to 12 times as strong as the rest, tau = 0.01 75 to 109
# times; the correlation loss, divided by n as in the paper's Algorithm 1, is at 0.0002 of it.
DROWNS, FAINT = 30.0, 0.01


def measure(losses: Losses, scale: float = 1.0) -> dict[str, float]:
    """Return the norm of every term's gradient at the student's tensors, weighted as in the total.

    {"ce_z": ..., "ce_logits": ..., "repr_z": ...}; a worker measures its own part of the batch.
    The norm is 0 for a term without an item, or cut off from a tensor it should act on. Call this
    before the backward pass: it leaves no gradient anywhere and runs no hook of a parameter, such
    as DDP's. scale: factor of a float16 loss, divided out again; norms that overflow with it are
    left out.
    """
    squares: dict[str, Tensor] = {}
    for term in losses.terms:
        for place in term.at:
            at = losses.at.get(place)
            if at is None:  # this model has no such tensor
                continue
            name = f"{term.name}_{place}"
            squares[name] = at.new_zeros((), dtype=torch.float32)
            if term.name not in losses.sums:
                continue
            count = torch.as_tensor(losses.counts[term.name], device=at.device).clamp_min(1)
            mean = scale * term.weight * losses.sums[term.name] / count
            for gradient in torch.autograd.grad(
                mean, _edges(at), retain_graph=True, allow_unused=True
            ):
                if gradient is not None:
                    squares[name] += gradient.float().div(scale).square().sum()
    norms = torch.stack(list(squares.values())).sqrt().tolist()
    return {name: norm for name, norm in zip(squares, norms, strict=True) if math.isfinite(norm)}


def _edges(tensor: Tensor) -> list[GradientEdge]:
    """Return the places in the graph where a gradient at `tensor` is taken.

    Of a stack of frames it is taken at every frame, because mask head and memory read the frames
    and not the stack.
    """
    node = tensor.grad_fn
    if node is not None and node.name() == "StackBackward0":
        return [GradientEdge(frame, index) for frame, index in node.next_functions if frame]
    return [get_gradient_edge(tensor)]


def judged_at(steps: int) -> int:
    """Return the last measured step of a training of `steps` steps."""
    return max(step for step in MEASURED if step <= steps)


def warnings_of(measured: Mapping[int, Mapping[str, float]], terms: Sequence[Term]) -> list[str]:
    """Warn about terms that do nothing or everything, one line each, from norms by step.

    Only what holds at every measured step is warned of: a term with zero gradient; one above
    DROWNS x the sum of the others at z or at the logits; and, if none dominates, one below
    FAINT x that sum everywhere it acts.
    """
    silent, loud, faint = [], [], []
    for term in terms:
        places = [p for p in term.at if all(f"{term.name}_{p}" in n for n in measured.values())]
        own = [norms[f"{term.name}_{place}"] for norms in measured.values() for place in places]
        if not own:  # not measured
            continue
        if not any(own):
            steps = ", ".join(map(str, measured))
            silent.append(f"{term.label}: no gradient at steps {steps}, so it teaches nothing")
            continue
        times = {p: [_times(norms, term.name, p) for norms in measured.values()] for p in places}
        for place, at in times.items():
            if min(at) > DROWNS:
                loud.append(
                    f"{term.label}: {min(at):.0f} times the gradient of all else at {place}"
                )
        most = max(map(max, times.values()))
        if most < FAINT:
            faint.append(f"{term.label}: at most {most:.1%} of the gradient of all else")
    return silent + (loud or faint)


def _times(norms: Mapping[str, float], term: str, place: str) -> float:
    """Divide a term's norm by the sum of all others'; 1 where that sum is 0."""
    own = f"{term}_{place}"
    rest = sum(v for name, v in norms.items() if name.endswith(f"_{place}") and name != own)
    return norms[own] / rest if rest > 0 else 1.0
