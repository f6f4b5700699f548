"""A trained model in three lines: load it, generate, save it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import ModelCard, ModelHubMixin
from torch import Tensor

from elf_lightning.checkpoints import ModelBundle, load_model, model_card, save_hub
from elf_lightning.checkpoints.hub import TOKENIZER_NAME
from elf_lightning.codec import TextCodec
from elf_lightning.errors import UserError
from elf_lightning.generation.device import autocast_context, usable_device, usable_precision
from elf_lightning.generation.generator import TextGenerator
from elf_lightning.generation.requests import Request, requests_from_user
from elf_lightning.generation.samples import Sample
from elf_lightning.network import ELFNetwork
from elf_lightning.network.compiling import require_compiler
from elf_lightning.sampling import SamplingSettings, Step
from elf_lightning.sampling.settings import DEFAULT_TRAJECTORIES, MEASURING_SEED


class ELF(ModelHubMixin, library_name="elf-lightning"):
    """A trained model with its tokenizer and, for prompts, its frozen encoder.

    `from_pretrained` reads Lightning checkpoints, official ones and Hub folders alike;
    `save_pretrained` and `push_to_hub` write a Hub folder.

    Args:
        bundle: configuration and weights.
        device: where to sample; a GPU if there is one, by default.
        compile: sample through `torch.compile`, which pays off over many batches, and needs a C++ compiler
            on a CPU, Triton on a GPU.
        precision: one of `PRECISIONS`; by default `bf16-mixed` on a GPU that computes in bfloat16, else
            `32-true`.

    Raises:
        UserError: for a device, precision or compiler that is not available.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """An instance without the mixin's record of arguments: `save_hub` writes the configuration."""
        return object.__new__(cls)

    def __init__(
        self,
        bundle: ModelBundle,
        device: torch.device | str | None = None,
        compile: bool = False,
        precision: str | None = None,
    ) -> None:
        self.bundle = bundle
        self.device = usable_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.precision = usable_precision(precision, self.device)
        if compile:
            require_compiler("compile=True (--compile)", self.device)
        self.generator = TextGenerator(
            network=bundle.network().to(self.device),
            config=bundle.config,
            precision=partial(autocast_context, self.precision, self.device),
            compile=compile,
            repetition_direction=bundle.repetition_direction,
        )

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        device: torch.device | str | None = None,
        averaged: bool = True,
        compile: bool = False,
        precision: str | None = None,
        max_length: int | None = None,
        max_condition_length: int | None = None,
        **download: Any,
    ) -> Self:
        """The model in a file, a folder or on the Hub; see `checkpoints.load_model`.

        Args:
            pretrained_model_name_or_path: a checkpoint, a run's folder, a Hub folder or a Hub id.
            device: where to sample; a GPU if there is one, by default.
            averaged: take the averaged weights where both kinds are stored.
            compile: sample through `torch.compile`.
            precision: as for `ELF`.
            max_length: longest sequence, for official checkpoints, which do not say; 1024 by default.
            max_condition_length: longest prompt, for official checkpoints of text-to-text models.
            download: passed on to `huggingface_hub.snapshot_download`: `revision`, `token` and the like.

        Raises:
            UserError: one line that says what is wrong with the file, or why it could not be found.
        """
        name = pretrained_model_name_or_path
        bundle = load_model(name, averaged, max_length, max_condition_length, **download)
        return cls(bundle, device, compile, precision)

    @property
    def network(self) -> ELFNetwork:
        """The denoiser and decoder."""
        return self.generator.network

    @property
    def codec(self) -> TextCodec:
        """Tokenizer, encoder, normalisation and special ids.

        Raises:
            UserError: if the checkpoint does not name them, or its tokenizer is another one.
        """
        return self.generator.codec

    @property
    def settings(self) -> SamplingSettings:
        """The model's own sampling settings, or the published ones."""
        return self.bundle.config.default_sampling

    @property
    def repetition_direction(self) -> Tensor | None:
        """(C,) what `repetition_control` steers along; None before `measure_repetition`."""
        return self.generator.repetition_direction

    def generate(
        self,
        num: int = 1,
        *,
        seed: int = 0,
        prompts: Sequence[str] | None = None,
        infill: Sequence[str] | None = None,
        batch_size: int = 32,
        **settings: Any,
    ) -> list[str]:
        """Texts; the same seed gives the same ones, whatever the batch size.

        Args:
            num: texts altogether, or for each prompt or template.
            seed: of all random draws.
            prompts: to answer (text-to-text models) or to continue (all others).
            infill: templates in which each `_` is a token to fill in.
            batch_size: texts sampled at once.
            settings: any of `SamplingSettings`, in place of the model's own: `steps=64`, `guidance=2.0`.

        Raises:
            UserError: for settings, prompts or templates that this model cannot use.
        """
        samples = self.samples(num, seed, prompts, infill, batch_size, **settings)
        return [sample.text for sample in samples]

    def samples(
        self,
        num: int = 1,
        seed: int = 0,
        prompts: Sequence[str] | None = None,
        infill: Sequence[str] | None = None,
        batch_size: int = 32,
        trajectory_steps: Collection[int] = (),
        on_step: Callable[[Step], None] | None = None,
        **settings: Any,
    ) -> Iterator[Sample]:
        """As `generate`, one after the other and with everything known about each.

        Args:
            num: as in `generate`, as are `seed`, `prompts`, `infill`, `batch_size` and `settings`.
            seed: of all random draws.
            prompts: one or more texts.
            infill: one or more templates.
            batch_size: texts sampled at once.
            trajectory_steps: numbers of the steps, from 0, after which to keep the text so far.
            on_step: called after every step of every batch, for progress bars.
            settings: in place of the model's own.

        Raises:
            UserError: as `generate`.
        """
        changed = self.changed_settings(**settings)
        requests = self.requests(num, prompts, infill)
        batches = self.generator.generate(requests, seed, changed, batch_size, trajectory_steps, on_step)
        for batch in batches:
            yield from batch

    def requests(
        self, num: int = 1, prompts: Sequence[str] | None = None, infill: Sequence[str] | None = None
    ) -> list[Request]:
        """What `samples` generates with these arguments.

        Raises:
            UserError: for prompts or templates that this model cannot use.
        """
        return requests_from_user(self.codec, num, prompts, infill)

    def changed_settings(self, **settings: Any) -> SamplingSettings:
        """This model's settings, changed by `settings`.

        Raises:
            UserError: for a setting that does not exist or has an impossible value.
        """
        known = [field.name for field in fields(SamplingSettings)]
        if unknown := sorted(settings.keys() - set(known)):
            raise UserError(f"sampling has no setting {', '.join(unknown)}; choose from {', '.join(known)}")
        if settings.keys() & {"steps", "grid"}:
            settings = {"times": None, **settings}
        return replace(self.settings, **settings)

    def needs_measuring(self, **settings: Any) -> bool:
        """Whether sampling with these settings needs `measure_repetition` first."""
        return self.generator.needs_measuring(self.changed_settings(**settings))

    def measure_repetition(
        self,
        num: int = DEFAULT_TRAJECTORIES,
        seed: int = MEASURING_SEED,
        prompts: Sequence[str] | None = None,
        batch_size: int = 32,
        on_step: Callable[[Step], None] | None = None,
        **settings: Any,
    ) -> Tensor:
        """Measure and keep the direction (C,) that `repetition_control` steers along, from `num` texts.

        `save_pretrained` saves it with the model.

        Args:
            num: texts altogether.
            seed: of their noise.
            prompts: to answer in turn, for text-to-text models.
            batch_size: texts sampled at once.
            on_step: called after every step of every batch, for progress bars.
            settings: in place of the model's own.

        Raises:
            UserError: for too few texts, or texts that do not differ in repetition.
        """
        given = self.requests(1, prompts)
        requests = [replace(given[index % len(given)], index=index) for index in range(num)]
        changed = self.changed_settings(**settings)
        direction = self.generator.measure_repetition(requests, changed, seed, batch_size, on_step)
        self.generator = replace(self.generator, repetition_direction=direction)
        return direction

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write a Hub folder; see `huggingface_hub.ModelHubMixin.save_pretrained` for the options.

        Raises:
            UserError: if the tokenizer cannot be read, before the folder is made.
        """
        _ = self.codec
        return super().save_pretrained(save_directory, **options)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The card that `save_pretrained` writes."""
        return ModelCard(model_card(self.bundle))

    def _save_pretrained(self, save_directory: Path) -> None:
        self.codec.text_tokenizer.save_pretrained(save_directory / TOKENIZER_NAME)
        config = replace(self.bundle.config, codec=replace(self.codec, tokenizer=TOKENIZER_NAME))
        bundle = replace(self.bundle, config=config, repetition_direction=self.repetition_direction)
        save_hub(bundle, save_directory)
