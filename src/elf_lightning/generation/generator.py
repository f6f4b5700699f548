"""The text generator behind `ELF`, callbacks, `predict` and evaluation."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from operator import attrgetter, itemgetter
from typing import Any

import torch
from torch import Tensor

from elf_lightning.batch import LatentPromptBatch, PromptBatch
from elf_lightning.checkpoints.config import ELFConfig
from elf_lightning.codec import TextCodec
from elf_lightning.errors import UserError
from elf_lightning.generation.requests import Request
from elf_lightning.network import ELFNetwork
from elf_lightning.ranks import T, gathered, rank_and_world_size
from elf_lightning.sampling import Infill, Sampler, SampleResult, SamplingSettings
from elf_lightning.sampling.repetition import check_trajectories, direction_between, trajectory_means
from elf_lightning.sampling.sampler import OnStep
from elf_lightning.sampling.settings import MEASURING_SEED

_UNSTEERED: dict[str, Any] = {"repetition_control": 0.0, "best_of": 1}  # of texts that are measured


@dataclass(frozen=True)
class Stage:
    """A text at one step of sampling.

    Attributes:
        time: from 0 (noise) to 1 (data).
        text: decoded from the network's estimate; at time 1, the generated text.
        tokens: (S,) network ids, including padding.
        latents: (S, C) noised latents `z`.
        estimate: (S, C) the network's estimate of the clean latents, `x_hat`.
    """

    time: float
    text: str
    tokens: list[int]
    latents: Tensor
    estimate: Tensor


@dataclass(frozen=True)
class Sample:
    """A generated text.

    Attributes:
        index: of the request.
        seed: of the random draws.
        text: up to EOS.
        tokens: network ids, without padding.
        stages: the text at the requested steps.
        certainty: the decoder's mean log-probability of the tokens, if there was a choice among texts.
    """

    index: int
    seed: int
    text: str
    tokens: list[int]
    stages: tuple[Stage, ...] = ()
    certainty: float | None = None

    @property
    def stage_tokens(self) -> list[list[int]]:
        """The ids at each stage, including padding."""
        return [stage.tokens for stage in self.stages]

    def record(self) -> dict[str, Any]:
        """A line of a sample file: `index, seed, text, tokens`."""
        return {"index": self.index, "seed": self.seed, "text": self.text, "tokens": self.tokens}


@dataclass(frozen=True)
class TextGenerator:
    """Turns requests into texts; a text depends on seed and request, and not on batch size or rank.

    If it is `distributed`, the ranks of the default process group share the work: all make the same calls and
    get all texts.
    """

    network: ELFNetwork  # the denoiser and decoder, possibly still in training
    config: ELFConfig
    precision: Callable[[], AbstractContextManager[Any]]  # creates a context for calls of the network
    compile: bool = False  # compile the solver's steps with `torch.compile`
    repetition_direction: Tensor | None = None  # (C,) for repetition control, if already measured
    distributed: bool = False
    _measured: dict[str, Tensor] = field(default_factory=dict)

    @property
    def codec(self) -> TextCodec:
        """The model's codec; a `UserError` if it has none, or one that does not fit the network."""
        codec = self.config.codec
        if codec is None:
            raise UserError(
                "the checkpoint does not say which tokenizer and encoder it was trained with, so it cannot "
                "generate text; use the checkpoint written by the run, or a Hub folder made from it"
            )
        if len(codec.vocabulary) != self.config.vocab_size:
            raise UserError(
                f"tokenizer '{codec.tokenizer}' has {len(codec.vocabulary)} tokens and does not fit the "
                f"model, which has {self.config.vocab_size}; use the tokenizer it was trained with"
            )
        return codec

    @property
    def ranks(self) -> tuple[int, int]:
        """This rank's number and the number of ranks that share the work."""
        return rank_and_world_size() if self.distributed else (0, 1)

    def gathered(self, items: list[T]) -> list[T]:
        """The items of all ranks that share the work, in rank order."""
        return gathered(items) if self.distributed else items

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self.network.rotary.device

    def sampler(self, settings: SamplingSettings | None = None) -> Sampler:
        """A sampler with these settings, by default the model's own."""
        settings = settings or self.config.default_sampling
        return Sampler(
            network=self.network,
            path=self.config.path,
            settings=settings,
            times=self.config.times,
            eos_id=None if self.codec.bos_eos else self.codec.eos_id,
            pad_id=self.codec.pad_id,
            repetition_direction=self._direction(settings),
            compile=self.compile,
            words=self.codec.known_words if settings.known_words and settings.temperature == 0 else None,
        )

    def generate(
        self,
        requests: Sequence[Request],
        seed: int,
        settings: SamplingSettings | None = None,
        batch_size: int = 32,
        trajectory_steps: Collection[int] = (),
        on_step: OnStep | None = None,
    ) -> Iterator[list[Sample]]:
        """Generate the texts of all requests, in order, one batch (over all ranks) at a time.

        Args:
            requests: what to generate.
            seed: of all random draws.
            settings: sampling settings; by default the model's own.
            batch_size: texts sampled at once per rank.
            trajectory_steps: indices of steps after which to keep the intermediate text.
            on_step: called after each step of each candidate on this rank, for progress bars.
        """
        for part in self._batches(requests, batch_size):
            samples = []
            if part:
                prompt, infill = self.batch(part)
                samples = self.sample_batch(prompt, seed, infill, settings, trajectory_steps, on_step)
            yield sorted(self.gathered(samples), key=attrgetter("index"))

    def sample_batch(
        self,
        prompt: LatentPromptBatch,
        seed: int,
        infill: Infill | None = None,
        settings: SamplingSettings | None = None,
        trajectory_steps: Collection[int] = (),
        on_step: OnStep | None = None,
    ) -> list[Sample]:
        """Generate one batch on this rank only; arguments as in `generate` and `batch`."""
        sampler = self.sampler(settings)
        best: list[Sample] = []
        for candidate in range(sampler.settings.best_of):
            with self.precision():
                result = sampler.sample(prompt, seed, infill, trajectory_steps, on_step, candidate)
            samples = _samples_of(result, self.codec, prompt.index.tolist(), seed)
            pairs = zip(best, samples, strict=True)
            best = [max(pair, key=attrgetter("certainty")) for pair in pairs] if best else samples
        return best

    def batch(self, requests: Sequence[Request]) -> tuple[LatentPromptBatch, Infill | None]:
        """The requests as one batch, with latents of the given tokens, on the network's device."""
        ids = torch.zeros(len(requests), self.config.max_length, dtype=torch.int64)
        condition_mask, fixed_mask = torch.zeros_like(ids).bool(), torch.zeros_like(ids).bool()
        for row, request in enumerate(requests):
            given = {**dict(enumerate(request.condition)), **request.fixed}
            ids[row, list(given)] = torch.tensor(list(given.values()), dtype=torch.int64)
            condition_mask[row, : len(request.condition)] = True
            fixed_mask[row, list(request.fixed)] = True
        index = torch.tensor([request.index for request in requests])
        prompt = self._embedded(PromptBatch(index, ids, condition_mask))
        if not fixed_mask.any():
            return prompt, None
        fixed = self._embedded(PromptBatch(index, ids, fixed_mask))
        network_ids = self.codec.vocabulary.to_network(fixed.input_ids)
        return prompt, Infill(fixed.condition_mask, network_ids, fixed.latents)

    def check(self, settings: SamplingSettings | None = None) -> None:
        """Refuse repetition control during training, when its direction changes with the weights."""
        if strength := (settings or self.config.default_sampling).repetition_control:
            raise UserError(
                f"sampling.repetition_control is {strength}, but the direction of repetition changes during "
                "training; give `settings` with a repetition_control of 0"
            )

    def needs_measuring(self, settings: SamplingSettings | None = None) -> bool:
        """Whether these settings need a direction of repetition that has not been measured."""
        settings = settings or self.config.default_sampling
        steered = bool(settings.repetition_control) and self.network.config.self_conditioning
        return steered and self._direction(settings) is None

    def measure_repetition(
        self,
        requests: Sequence[Request],
        settings: SamplingSettings | None = None,
        seed: int = MEASURING_SEED,
        batch_size: int = 32,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Measure the direction of repetition (C,) of texts sampled with these settings; kept for `sampler`.

        The arguments are as in `generate`; the repetition control of the settings is ignored. Too few texts,
        or texts that do not differ in repetition, are a `UserError`.
        """
        check_trajectories(len(requests))
        settings = replace(settings or self.config.default_sampling, **_UNSTEERED)
        sampler = self.sampler(settings)
        measured: list[tuple[int, Tensor, float]] = []
        for part in filter(None, self._batches(requests, batch_size)):
            with self.precision():
                means, repetition = trajectory_means(sampler, self.batch(part)[0], seed, on_step)
            indices = [request.index for request in part]
            measured += zip(indices, means.float().cpu(), repetition.tolist(), strict=True)
        _, all_means, repetitions = zip(*sorted(self.gathered(measured), key=itemgetter(0)), strict=True)
        direction = direction_between(torch.stack(all_means), torch.tensor(repetitions))
        self._measured[str(settings)] = direction
        return direction

    def _direction(self, settings: SamplingSettings) -> Tensor | None:
        if self.repetition_direction is not None:
            return self.repetition_direction
        return self._measured.get(str(replace(settings, **_UNSTEERED)))

    def _batches(self, requests: Sequence[Request], batch_size: int) -> Iterator[Sequence[Request]]:
        """This rank's part of each batch; the number of batches is the same on all ranks."""
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}; it must be at least 1")
        rank, world_size = self.ranks
        size = batch_size * world_size
        for start in range(0, len(requests), size):
            yield requests[start : start + size][rank::world_size]

    def _embedded(self, prompt: PromptBatch) -> LatentPromptBatch:
        prompt = prompt.to(self.device)
        if not prompt.condition_mask.any():  # no encoder is needed
            latents = torch.zeros(*prompt.input_ids.shape, self.config.latent_size, device=self.device)
            return LatentPromptBatch(**vars(prompt), latents=latents)
        embedder = self.codec.embedder
        if embedder.encoder.latent_size != self.config.latent_size:
            raise UserError(
                f"encoder '{embedder.encoder.name_or_path}' gives latents of size "
                f"{embedder.encoder.latent_size}, but the model was trained on size "
                f"{self.config.latent_size}; use the encoder it was trained with"
            )
        with self.precision():
            embedded = embedder.prompts(prompt)
        return replace(embedded, latents=embedded.latents.float())


def _samples_of(result: SampleResult, codec: TextCodec, indices: list[int], seed: int) -> list[Sample]:
    stages: list[list[Stage]] = [[] for _ in indices]
    if (path := result.trajectory) is not None:
        for time, tokens, *latents in zip(path.times, path.tokens, path.latents, path.estimates, strict=True):
            columns = zip(stages, codec.decode(tokens), tokens.tolist(), *latents, strict=True)
            for own, text, ids, z, estimate in columns:
                own.append(Stage(time, text, ids, z, estimate))
    kept = [[token for token in ids if token != codec.pad_id] for ids in result.tokens.tolist()]
    texts = codec.decode(result.tokens)
    certainty = [None] * len(indices) if result.certainty is None else result.certainty.tolist()
    rows = zip(indices, texts, kept, map(tuple, stages), certainty, strict=True)
    return [Sample(index, seed, *row) for index, *row in rows]
