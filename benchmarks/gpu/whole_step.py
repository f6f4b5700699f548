"""A whole training step, from token ids to averaged weights, in all the ways that are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch import Tensor

from benchmarks.gpu.steps import Average, MadeUpRows, Training
from benchmarks.rounds import timed
from benchmarks.sizes import SIZES, Size
from elf_lightning.batch import LatentBatch
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.network.flops import training_step_flops
from elf_lightning.objectives import ELFObjective, StepKey
from elf_lightning.optim import Muon

OBJECTIVE = ELFObjective()


@dataclass(frozen=True)
class Case:
    """One way to train.

    Attributes:
        size: name of the network's size.
        rows: of a step.
        compiled: through `torch.compile`.
        checkpointing: recompute blocks in the backward pass.
        matmul: precision of what stays in float32: `high` is TF32, `highest` is none of it.
    """

    size: str
    rows: int
    compiled: bool = True
    checkpointing: bool = False
    matmul: str = "high"

    @property
    def name(self) -> str:
        """As tables have it."""
        how = ["compiled" if self.compiled else "eager"]
        how += ["checkpointing"] if self.checkpointing else []
        how += ["no TF32"] if self.matmul == "highest" else []
        return f"{self.size}, {self.rows} rows, {', '.join(how)}"


def cases(size: str, rows: int) -> Iterator[Case]:
    """Those that count most first."""
    yield Case(size, rows)
    yield Case(size, rows, compiled=False)
    yield Case(size, rows, checkpointing=True)
    yield Case(size, rows, matmul="highest")
    for factor in (0.25, 0.5, 2, 4, 8):
        yield Case(size, int(rows * factor))
    yield Case(size, rows, compiled=False, checkpointing=True)
    for factor in (4, 8):
        yield Case(size, rows * factor, checkpointing=True)
    if size == "elf-b":
        for larger in ("elf-m", "elf-l"):
            for checkpointing in (False, True):
                yield Case(larger, SIZES[larger].batch_size, checkpointing=checkpointing)


def random_encoder(size: Size, folder: str, device: torch.device) -> PretrainedEncoder:
    """An encoder with random weights: T5-small's sizes where the latents are as large."""
    from transformers import T5Config, T5EncoderModel

    heads = max(1, size.latent_size // 64)
    config = T5Config(
        vocab_size=size.vocabulary_size, d_model=size.latent_size, d_kv=64, num_heads=heads,
        d_ff=4 * size.latent_size, num_layers=6 if heads > 1 else 1,
    )  # fmt: skip
    T5EncoderModel(config).save_pretrained(folder)
    return PretrainedEncoder(folder).load().to(device)


class Step:
    """A whole training step from token ids, and its parts.

    Args:
        case: how to train.
        encoder: makes the latents.
        device: where.
    """

    def __init__(self, case: Case, encoder: PretrainedEncoder, device: torch.device) -> None:
        torch.set_float32_matmul_precision(case.matmul)
        size = SIZES[case.size]
        shape = replace(size.shape, gradient_checkpointing=case.checkpointing)
        self.network = replace(size, shape=shape).network(device)
        self.mixed = device.type == "cuda"
        self.training = Training(self.network, OBJECTIVE, Muon(), rows=case.rows, mixed=self.mixed)
        self.average = Average(self.network, 0.9999)
        self.encoder, self.device = encoder, device
        self.rows = MadeUpRows(size, device)(case.rows)
        if case.compiled:
            torch.compiler.reset()
            self.network.compile()

    def __call__(self) -> Tensor:
        """From ids to averaged weights; the loss."""
        loss = self.training(self.encoded())
        self.average.update()
        return loss

    @torch.no_grad()
    def encoded(self) -> LatentBatch:
        """The batch with the encoder's latents."""
        ids = self.rows.input_ids
        mask = torch.ones(len(ids), 1, ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device)
        with self._precision():
            latents = self.encoder(ids, mask)
        return replace(self.rows, latents=latents.float())

    def flops(self) -> float:
        """The network's work in a step, on average of the draws."""
        rows, length = self.rows.input_ids.shape
        decode = OBJECTIVE.decode_probability * rows
        self_cond = OBJECTIVE.self_cond_probability * (rows - decode)
        return training_step_flops(self.network, rows, length, decode, self_cond)

    def parts(self, rounds: int) -> dict[str, float]:
        """Median seconds of each part alone."""
        draws = OBJECTIVE.draw(self.rows.latents.shape, StepKey(0, 0, 0), self.device)
        plain = draws.with_counts(draws.num_decode, 0)
        own = self.rows.latents[: draws.num_self_cond]
        t, guidance = draws.t[: len(own)], draws.guidance[: len(own)]

        def self_conditioning() -> None:
            with torch.no_grad(), self._precision():
                for _ in range(2):
                    self.network.denoise(own, t, guidance, own)

        def forward() -> Tensor:
            return self.training.loss(self.rows, plain)  # type: ignore[no-any-return]

        def forward_and_backward() -> None:
            forward().backward()  # type: ignore[no-untyped-call]

        ways: dict[str, Callable[[], object]] = {
            "encode": self.encoded,
            "two forwards without gradient": self_conditioning,
            "forward, heads, loss": forward,
            "that and backward": forward_and_backward,
            "clipping and optimizer": self.training.update,
            "average": self.average.update,
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 1):
            for name, way in ways.items():
                lasted = timed(way, self.device)
                if number:
                    seconds[name].append(lasted)
        return {name: median(values) for name, values in seconds.items()}

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed)
