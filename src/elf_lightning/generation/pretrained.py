"""A trained model in three lines: load it, generate, save it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import ModelCard, ModelHubMixin
from torch import Tensor

from elf_lightning.checkpoints import ModelBundle, load_model, model_card, save_hub
from elf_lightning.checkpoints.hub import TOKENIZER_NAME
from elf_lightning.data import Detokenizer
from elf_lightning.errors import UserError
from elf_lightning.generation.device import computing_in, usable_device, usable_precision
from elf_lightning.generation.prompts import RowMaker
from elf_lightning.generation.samples import Sample, samples_of
from elf_lightning.network.compiling import require_compiler
from elf_lightning.sampling import Sampler, SamplingSettings, Step, measure_direction
from elf_lightning.sampling.settings import DEFAULT_TRAJECTORIES, MEASURING_SEED


class ELF(ModelHubMixin, library_name="elf-lightning"):
    """A trained model with its tokenizer and, for prompts, its frozen encoder.

    `from_pretrained` reads Lightning checkpoints, official ones and Hub folders alike;
    `save_pretrained` and `push_to_hub` write a Hub folder.

    Args:
        bundle: weights, sizes and decoding state.
        device: where to sample; a GPU if there is one, by default.
        compile: sample through `torch.compile`, which pays for itself over many batches, and needs a C++
            compiler on a CPU, Triton on a GPU.
        precision: of `PRECISIONS`; by default `bf16-mixed` on a GPU that computes in it, else `32-true`.

    Raises:
        UserError: for a device that is not there, a precision that is not known, or nothing that compiles.
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
        self.compile = compile
        self.device = usable_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.precision = usable_precision(precision, self.device)
        if compile:
            require_compiler("compile=True (--compile)", self.device)
        self.network = bundle.network().to(self.device)
        self.settings = _settings(bundle)
        self.repetition_direction = bundle.repetition_direction

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
            averaged: take the averaged weights where there are two kinds.
            compile: sample through `torch.compile`.
            precision: as for `ELF`.
            max_length: longest row, for official checkpoints, which do not say; 1024 by default.
            max_condition_length: longest prompt, for official checkpoints of text-to-text models.
            download: passed on to `huggingface_hub.snapshot_download`: `revision`, `token` and the like.

        Raises:
            UserError: one line that says what is wrong with the file, or why it cannot be had.
        """
        name = pretrained_model_name_or_path
        bundle = load_model(name, averaged, max_length, max_condition_length, **download)
        return cls(bundle, device, compile, precision)

    @property
    def decoding(self) -> Mapping[str, Any]:
        """Tokenizer, encoder, normalisation and special ids.

        Raises:
            UserError: if the checkpoint does not name them.
        """
        if not self.bundle.decoding:
            raise UserError(
                "the checkpoint does not say which tokenizer and encoder it was trained with, so there is no "
                "turning its tokens into text; take the run's own checkpoint, or a Hub folder made of that"
            )
        return self.bundle.decoding

    @cached_property
    def detokenizer(self) -> Detokenizer:
        """Network ids -> text.

        Raises:
            UserError: if the checkpoint does not name its tokenizer, or the tokenizer is another one.
        """
        decoding = self.decoding
        detokenizer = Detokenizer.from_state(decoding)
        kept = decoding["kept_ids"]
        ids, known = len(detokenizer.tokenizer), self.bundle.vocab_size
        if ids != known if kept is None else (max(kept) >= ids or len(kept) != known):
            raise UserError(
                f"tokenizer '{decoding['tokenizer']}' has {ids} tokens and does not fit the model, which was "
                f"trained on {known}; it needs the tokenizer it was trained with"
            )
        return detokenizer

    @cached_property
    def rows(self) -> RowMaker:
        """What the user writes -> rows to generate."""
        bundle = self.bundle
        return RowMaker(
            self.detokenizer.tokenizer,
            bundle.decoding,
            bundle.latent_size,
            bundle.max_length,
            self._computing,
        )

    def _computing(self) -> torch.autocast:
        return computing_in(self.precision, self.device)

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
            prompts: to answer (text-to-text models) or to go on from (all others).
            infill: templates in which each `_` is a token to fill in.
            batch_size: rows sampled at once.
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
        """As `generate`, one after the other and with all that is known of each.

        Args:
            num: as in `generate`, as are `seed`, `prompts`, `infill`, `batch_size` and `settings`.
            seed: of all random draws.
            prompts: one or more texts.
            infill: one or more templates.
            batch_size: rows sampled at once.
            trajectory_steps: numbers of the steps, from 0, after which to keep the text on its way.
            on_step: called after every step of every batch, for progress bars.
            settings: in place of the model's own.

        Raises:
            UserError: as `generate`.
        """
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}; it must be at least 1")
        sampler = self.sampler(**settings)
        plans = self.rows.plans(num, prompts, infill)
        for prompt, fixed in self.rows.batches(plans, batch_size, self.device):
            with self._computing():
                result = sampler.sample(prompt, seed, fixed, trajectory_steps, on_step)
            indices = prompt.index.tolist()
            yield from samples_of(result, self.detokenizer, self.decoding["pad_id"], indices, seed)

    def changed_settings(self, **settings: Any) -> SamplingSettings:
        """This model's settings, changed by `settings`.

        Raises:
            UserError: for a setting that does not exist or has an impossible value.
        """
        known = [field.name for field in fields(SamplingSettings)]
        if unknown := sorted(settings.keys() - set(known)):
            raise UserError(f"sampling has no setting {', '.join(unknown)}; known are {', '.join(known)}")
        if settings.keys() & {"steps", "grid"}:
            settings = {"times": None, **settings}
        return replace(self.settings, **settings)

    def sampler(self, **settings: Any) -> Sampler:
        """A sampler with this model's settings, changed by `settings`.

        Raises:
            UserError: as `changed_settings`, or if repetition is to be controlled and was never measured.
        """
        return Sampler(
            network=self.network,
            path=self.bundle.path,
            settings=self.changed_settings(**settings),
            times=self.bundle.times,
            eos_id=self.decoding["eos_id"],
            pad_id=self.decoding["pad_id"],
            repetition_direction=self.repetition_direction,
            compile=self.compile,
        )

    @property
    def needs_measuring(self) -> bool:
        """Whether `repetition_control` is possible, but for `measure_repetition`."""
        return self.repetition_direction is None and self.network.config.self_conditioning

    def measure_repetition(
        self,
        num: int = DEFAULT_TRAJECTORIES,
        seed: int = MEASURING_SEED,
        prompts: Sequence[str] | None = None,
        batch_size: int = 32,
        on_step: Callable[[Step], None] | None = None,
        **settings: Any,
    ) -> Tensor:
        """Find and keep the direction (C,) that `repetition_control` steers along, from `num` texts.

        `save_pretrained` saves it with the model.

        Args:
            num: texts altogether.
            seed: of their noise.
            prompts: to answer in turn, for text-to-text models.
            batch_size: rows sampled at once.
            on_step: called after every step of every batch, for progress bars.
            settings: in place of the model's own.

        Raises:
            UserError: for too few texts, or texts that do not differ in repetition.
        """
        sampler = self.sampler(**{**settings, "repetition_control": 0.0})
        each = self.rows.plans(1, prompts)
        plans = (each * ceil(num / len(each)))[:num]
        batches = (prompt for prompt, _ in self.rows.batches(plans, batch_size, self.device))
        with self._computing():
            self.repetition_direction = measure_direction(sampler, batches, seed, on_step).cpu()
        return self.repetition_direction

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write a Hub folder; see `huggingface_hub.ModelHubMixin.save_pretrained` for the options.

        Raises:
            UserError: if the tokenizer is not to be had, before the folder is made.
        """
        _ = self.detokenizer
        return super().save_pretrained(save_directory, **options)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The card that `save_pretrained` writes."""
        return ModelCard(model_card(self.bundle))

    def _save_pretrained(self, save_directory: Path) -> None:
        self.detokenizer.tokenizer.save_pretrained(save_directory / TOKENIZER_NAME)
        decoding = {**self.decoding, "tokenizer": TOKENIZER_NAME}
        bundle = replace(self.bundle, decoding=decoding, repetition_direction=self.repetition_direction)
        save_hub(bundle, save_directory)


def _settings(bundle: ModelBundle) -> SamplingSettings:
    """The checkpoint's, or the published ones where it does not say."""
    if not bundle.sampling and bundle.decoding.get("max_condition_length") is not None:
        return SamplingSettings.text_to_text()
    try:
        return SamplingSettings(**bundle.sampling)
    except TypeError as error:
        raise UserError(
            f"the model's sampling settings do not fit this version of elf_lightning ({error}); "
            "use the version that wrote it"
        ) from error
