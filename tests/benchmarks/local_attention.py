"""Time the window attention of AOT and DeAOT, and the memory that it takes.

`python -m tests.benchmarks.local_attention` runs windows of 15x15 on the 31x54 positions of a
480x854 frame, forward alone and with backward: DeAOT's one head, values 1024 wide, and AOT's eight
heads of 32. The plain form gathers keys and values of every window; the dense one multiplies all
pairs of positions and masks those apart. Timed on one thread.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from tests.benchmarks.rounds import Claim, fresh_peak, parsed, print_peak, report, rounds
from vosmodels.aot.local_attention import local_attention, window_inside
from vosmodels.support.memory import keep_freed_memory
from vosmodels.support.seeding import generator

MODULE = "tests.benchmarks.local_attention"
SIZE, RADIUS = (31, 54), 7
POSITIONS, WINDOW = SIZE[0] * SIZE[1], (2 * RADIUS + 1) ** 2
FAMILIES = {"deaot": (1, 128, 1024), "aot": (8, 32, 32)}  # heads, width of keys and of values
# Times less CPU than the dense form; share of the plain form's memory.
FASTER = {"deaot": 1.7, "aot": 2.0}
SHARE = 0.25

Attention = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def gathered(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """The plain form: (B, M, HW, window, .) keys and values of every window."""
    rows, columns = torch.arange(SIZE[0])[:, None], torch.arange(SIZE[1])[:, None]
    offsets = torch.arange(-RADIUS, RADIUS + 1)
    y = (rows + offsets).clamp(0, SIZE[0] - 1)[:, None, :, None]
    x = (columns + offsets).clamp(0, SIZE[1] - 1)[None, :, None, :]
    index = (y * SIZE[1] + x).flatten(0, 1).flatten(1)  # (HW, window)
    scores = (key[:, :, index] @ query.unsqueeze(4)).squeeze(4) + bias
    scores = scores.masked_fill(~window_inside(SIZE, RADIUS, query.device), -torch.inf)
    return (scores.softmax(3).unsqueeze(3) @ value[:, :, index]).squeeze(3)


def dense(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """All pairs of positions, HW x HW, with the bias where one sees the other."""
    rows, columns = torch.arange(SIZE[0]), torch.arange(SIZE[1])
    dy = (rows - rows[:, None])[:, None, :, None]
    dx = (columns - columns[:, None])[None, :, None, :]
    near = (dy.abs() <= RADIUS) & (dx.abs() <= RADIUS)  # (H, W, H, W)
    offset = (dy + RADIUS) * (2 * RADIUS + 1) + dx + RADIUS
    index = torch.where(near, offset, WINDOW).view(1, 1, POSITIONS, POSITIONS)
    padded = functional.pad(bias, (0, 1), value=-torch.inf)
    spread = padded.gather(3, index.expand(*bias.shape[:2], -1, -1))
    return (query @ key.transpose(2, 3) + spread).softmax(3) @ value


def ours(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    return local_attention(query, key, value, bias, size=SIZE, radius=RADIUS)


FORMS: dict[str, Attention] = {"gathered": gathered, "dense": dense, "ours": ours}
MODES = ("forward", "and backward")


def step(family: str, mode: str, attention: Attention) -> Callable[[], list[Tensor]]:
    """Return a call on random tensors; it gives the output, or all gradients."""
    heads, width, values = FAMILIES[family]
    rng = generator(0, "local attention", family)

    def normal(channels: int) -> Tensor:
        return torch.randn(1, heads, POSITIONS, channels, generator=rng)

    inputs = normal(width) * width**-0.5, normal(width), normal(values), normal(WINDOW)
    upstream = normal(values)

    def forward() -> list[Tensor]:
        with torch.inference_mode():
            return [attention(*inputs)]

    def and_backward() -> list[Tensor]:
        leaves = [x.detach().requires_grad_() for x in inputs]
        return [*torch.autograd.grad(attention(*leaves), leaves, upstream)]

    return forward if mode == "forward" else and_backward


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 where all forms agree and every claim holds, else 1."""
    cases = [(family, mode) for family in FAMILIES for mode in MODES]
    candidates = {
        f"{family} {mode}, {name}": step(family, mode, form)
        for family, mode in cases
        for name, form in FORMS.items()
    }
    args = parsed(MODULE, argv, count=3, peaks=candidates)
    if args.peak:
        return print_peak(candidates[args.peak])
    keep_freed_memory()
    torch.set_num_threads(1)  # the waits of threads for each other would be counted
    for family, mode in cases:
        exact, *others = (candidates[f"{family} {mode}, {name}"]() for name in FORMS)
        for other in others:
            torch.testing.assert_close(other, exact, atol=1e-4, rtol=1e-3)
    timings = rounds(candidates, args.rounds, warm=False)
    peaks = {name: fresh_peak(MODULE, name) for name in candidates}
    for name, peak in peaks.items():
        print(f"{name}: {peak:.0f} MiB at work")
    claims = []
    for family, mode in cases:
        seconds = [timings[f"{family} {mode}, {name}"].median() for name in FORMS]
        mib = [peaks[f"{family} {mode}, {name}"] for name in FORMS]
        case = f"{family} {mode}: "
        claims += [
            Claim(f"{case}times less CPU than dense", seconds[1] / seconds[2], FASTER[family]),
            Claim(f"{case}times less CPU than gathered", seconds[0] / seconds[2], 4.0),
            Claim(f"{case}share of the gathered form's memory", mib[2] / mib[0], SHARE, True),
        ]
    return 0 if report("local_attention", args.command, timings, claims, out=args.out) else 1


if __name__ == "__main__":
    sys.exit(main())
