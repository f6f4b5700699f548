"""Each fast path of a training step on its own, beside the plain way to the same result.

    python -m benchmarks.fast_paths --size quickstart --json fast_paths.json

Forward and backward together, where there is a backward pass; both ways must agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor, nn

from benchmarks.batches import made_up_batch
from benchmarks.optimizer import with_gradients
from benchmarks.plain import PlainAverage, plain_newton_schulz
from benchmarks.plain_network import rms_norm, rotary_angles, rotate
from benchmarks.rounds import alternate, arguments, report
from benchmarks.sizes import SIZES, Size
from elf_lightning.network import attention
from elf_lightning.objectives import token_loss
from elf_lightning.optim.newton_schulz import iterate_directly, iterate_on_gram, orthogonalize

TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}


@dataclass(frozen=True)
class FastPath:
    """Two ways to the same tensors.

    Attributes:
        name: what is done.
        plain: the plain way.
        fast: the product's.
    """

    name: str
    plain: Callable[[], Any]
    fast: Callable[[], Any]

    def check(self) -> None:
        """See that both ways agree.

        Raises:
            AssertionError: if they do not.
        """
        torch.testing.assert_close(self.fast(), self.plain(), **TOLERANCE)


def fast_paths(size: Size, device: torch.device) -> Iterator[FastPath]:
    """All of them, at the shapes that a training step has."""
    yield from _in_the_network(size, device)
    yield from _in_the_token_loss(size, device)
    yield from _in_the_optimizer(size, device)


def _normal(*shape: int, device: torch.device) -> Tensor:
    """The same numbers each time."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(device)


def _with_gradients(way: Callable[[], Tensor], *of: Tensor) -> Callable[[], Any]:
    """The way's result, and the gradients of its product with numbers that are always the same."""
    example = way().detach()
    numbers = _normal(*example.shape, device=example.device)

    def run() -> Any:
        result = way()
        return result, torch.autograd.grad(result, of, numbers)

    return run


def _in_the_network(size: Size, device: torch.device) -> Iterator[FastPath]:
    network = size.network(device)
    prefix, heads = network.prefix.length, size.shape.num_heads
    positions = prefix + size.max_length
    hidden = _normal(size.batch_size, positions, size.shape.hidden_size, device=device).requires_grad_()
    norm = network.blocks[0].attention_norm
    yield FastPath(
        "RMS norm",
        _with_gradients(lambda: rms_norm(norm, hidden), hidden, norm.weight),
        _with_gradients(lambda: norm(hidden), hidden, norm.weight),
    )
    split = hidden.unflatten(-1, (heads, -1))
    angles = rotary_angles(prefix, size.max_length, size.shape.hidden_size // heads).to(device)
    yield FastPath(
        "rotation",
        _with_gradients(lambda: rotate(split.transpose(1, 2), angles).transpose(1, 2), hidden),
        _with_gradients(lambda: attention.rotate(split, network.rotary[:positions]), hidden),
    )
    entrance = network.latent_in
    merge, weights = entrance.merge_self_cond, list(entrance.parameters())
    assert merge is not None
    z, x_hat = _normal(2, size.batch_size, size.max_length, size.latent_size, device=device)
    yield FastPath(
        "latents in",
        _with_gradients(lambda: entrance.up(entrance.down(merge(torch.cat([z, x_hat], -1)))), *weights),
        _with_gradients(lambda: entrance(z, x_hat), *weights),
    )


def _in_the_token_loss(size: Size, device: torch.device) -> Iterator[FastPath]:
    network = size.network(device)
    rows = max(2, round(size.objective.decode_probability * size.batch_size))
    ids = made_up_batch(size, rows, device).input_ids
    hidden = _normal(*ids.shape, size.shape.hidden_size, device=device).requires_grad_()
    counting = torch.ones(ids.shape, device=device)
    of = [hidden, *network.token_head.parameters()]

    def plain() -> Any:
        logits = network.token_head(hidden)
        loss = F.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="sum")
        return loss, (logits.argmax(-1) == ids).float().sum(), torch.autograd.grad(loss, of)

    def fast() -> Any:
        loss, hits = token_loss.token_cross_entropy(network, hidden, ids, counting)
        return loss, hits, torch.autograd.grad(loss, of)

    def small_chunks() -> Any:
        with patch.object(token_loss, "CHUNK_LOGITS", ids.numel() * size.vocabulary_size // 8):
            return fast()

    yield FastPath("token head and loss", plain, fast)
    yield FastPath("the same, against chunks of an eighth", small_chunks, fast)


def _in_the_optimizer(size: Size, device: torch.device) -> Iterator[FastPath]:
    network = with_gradients(size, str(device))
    alike = [block.attention.out.weight.detach() for block in network.blocks]
    yield FastPath(
        f"Newton-Schulz, {len(alike)} square matrices",
        lambda: [plain_newton_schulz(matrix) for matrix in alike],
        lambda: list(orthogonalize(torch.stack(alike)).unbind()),
    )
    long = network.token_head.unembed.weight.detach()[None]
    yield FastPath(
        "Newton-Schulz, unembedding", lambda: iterate_directly(long), lambda: iterate_on_gram(long)
    )
    weights = [p.detach() for p in network.parameters()]
    averages = [weight.clone() for weight in weights]
    one_by_one = PlainAverage(network, 0.9)

    def plain_average() -> list[Tensor]:
        one_by_one()
        return one_by_one.averages

    def average() -> list[Tensor]:
        torch._foreach_lerp_(averages, weights, 0.1)
        return averages

    yield FastPath("average of weights", plain_average, average)
    yield FastPath(
        "norm of gradients",
        lambda: nn.utils.clip_grad_norm_(network.parameters(), torch.inf, foreach=False),
        lambda: nn.utils.clip_grad_norm_(network.parameters(), torch.inf),
    )


def main() -> None:
    """Measures, prints and writes what the command line asks for."""
    options = arguments(__doc__, rounds=15).parse_args()
    device = torch.device(options.device)
    table = Table("", title=f"Fast paths, {options.size}")
    for heading in ("plain, ms", "fast, ms", "times plain"):
        table.add_column(heading, justify="right")
    record = {}
    for path in fast_paths(SIZES[options.size], device):
        path.check()
        rounds = alternate({"plain": path.plain, "fast": path.fast}, options.rounds, device, warmup=2)
        times = (f"{rounds.milliseconds(way).median:.2f}" for way in rounds.seconds)
        table.add_row(path.name, *times, str(rounds.ratio("fast", "plain")))
        record[path.name] = rounds.record("plain")
    report([table], {"size": options.size, "paths": record}, options)


if __name__ == "__main__":
    main()
