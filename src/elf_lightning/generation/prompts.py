"""What the user writes -> rows to generate: nothing, a prompt, or a template with blanks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from elf_lightning.batch import LatentPromptBatch, PromptBatch
from elf_lightning.codec.latents import Embedder, LatentStatistics
from elf_lightning.codec.vocabulary import RestrictedVocabulary
from elf_lightning.encoders import Encoder, PretrainedEncoder, TokenTableEncoder
from elf_lightning.errors import UserError
from elf_lightning.sampling import Infill

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ENCODERS: dict[str, type[Encoder]] = {
    "PretrainedEncoder": PretrainedEncoder,
    "TokenTableEncoder": TokenTableEncoder,
}


@dataclass(frozen=True)
class RowPlan:
    """One row to generate, in the tokenizer's ids.

    Attributes:
        condition: the clean prefix of a text-to-text model.
        fixed: the tokens that the text must have, by position.
    """

    condition: Sequence[int] = ()
    fixed: Mapping[int, int] = field(default_factory=dict)


class RowMaker:
    """Plans rows and turns plans into batches; the frozen encoder is read when a row needs it.

    Args:
        tokenizer: the model's.
        decoding: the DataModule's decoding state.
        latent_size: C of the network.
        max_length: S of the network.
        precision: a context in which to embed, as the network computes.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        decoding: Mapping[str, Any],
        latent_size: int,
        max_length: int,
        precision: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self.tokenizer = tokenizer
        self.decoding = decoding
        self.latent_size = latent_size
        self.max_length = max_length
        self.precision = precision
        self.max_condition_length: int | None = decoding["max_condition_length"]

    def plans(
        self, num: int, prompts: Sequence[str] | None = None, infill: Sequence[str] | None = None
    ) -> list[RowPlan]:
        """The rows of a request, in order: all of the first prompt, then of the second, and so on.

        Raises:
            UserError: for prompts and templates together, or any that this model cannot use.
        """
        if num < 1:
            raise UserError(f"num is {num}; ask for at least 1 text")
        if prompts is not None and infill is not None:
            raise UserError("prompts and infill cannot go together; give one of them")
        if prompts is not None:
            plans = [self.prompt(text) for text in _texts(prompts)]
        elif infill is not None:
            plans = [self.template(text) for text in _texts(infill)]
        else:
            plans = [self.free()]
        return [plan for plan in plans for _ in range(num)]

    def free(self) -> RowPlan:
        """A row without anything given.

        Raises:
            UserError: for a text-to-text model.
        """
        if self.max_condition_length is not None:
            raise UserError("this is a text-to-text model: it needs prompts to answer; give prompts")
        return RowPlan()

    def prompt(self, text: str) -> RowPlan:
        """A row that answers `text` (text-to-text), or goes on from it.

        Raises:
            UserError: for a prompt that is empty, too long, or outside the model's vocabulary.
        """
        ids = self._ids(text)
        limit = self.max_length - 1
        if self.max_condition_length is not None:
            limit = min(limit, self.max_condition_length)
        if not 1 <= len(ids) <= limit:
            raise UserError(f"prompt {_short(text)} has {len(ids)} tokens; give 1 to {limit} for this model")
        if self.max_condition_length is not None:
            return RowPlan(condition=ids)
        self._check_known(text, ids)
        return RowPlan(fixed=dict(enumerate(ids)))

    def template(self, text: str) -> RowPlan:
        """A row with the tokens of `text`, in which each `_` leaves one token open, and its end.

        The limits: a blank has a fixed number of tokens (wordpieces, not words), and the given tokens are
        embedded without the words that will stand between them, which a contextual encoder would have heeded.

        Raises:
            UserError: for a text-to-text model, or a template without blanks, too long, or outside the
                model's vocabulary.
        """
        if self.max_condition_length is not None:
            raise UserError(
                "infill needs a model of unconditional text, this one is text-to-text; give prompts"
            )
        fixed: dict[int, int] = {}
        length = 0
        for piece in re.split(r"(_+)", text):
            ids = [] if piece.startswith("_") else self._ids(piece)
            self._check_known(text, ids)
            fixed |= dict(enumerate(ids, start=length))
            length += len(ids) or piece.count("_")
        if length > self.max_length:
            raise UserError(
                f"infill {_short(text)} has {length} tokens, more than a row of {self.max_length}; shorten it"
            )
        if length == len(fixed):
            raise UserError(f"infill {_short(text)} has no blank; write one `_` for each token to fill in")
        if length < self.max_length:
            fixed[length] = self._tokenizer_id(self.decoding["eos_id"])
        return RowPlan(fixed=fixed)

    def batches(
        self, plans: Sequence[RowPlan], batch_size: int, device: torch.device
    ) -> Iterator[tuple[LatentPromptBatch, Infill | None]]:
        """All rows of a request, so many at once, numbered from 0."""
        for start in range(0, len(plans), batch_size):
            yield self.batch(plans[start : start + batch_size], start, device)

    def batch(
        self, plans: Sequence[RowPlan], first_index: int, device: torch.device
    ) -> tuple[LatentPromptBatch, Infill | None]:
        """The rows of `plans`, numbered from `first_index`, in the network's ids, with their latents."""
        ids = torch.zeros(len(plans), self.max_length, dtype=torch.int64)
        condition_mask, fixed_mask = torch.zeros_like(ids).bool(), torch.zeros_like(ids).bool()
        for row, plan in enumerate(plans):
            given = {**dict(enumerate(plan.condition)), **plan.fixed}
            places = torch.tensor(list(given), dtype=torch.int64)
            ids[row, places] = torch.tensor(list(given.values()), dtype=torch.int64)
            condition_mask[row, : len(plan.condition)] = True
            fixed_mask[row, list(plan.fixed)] = True
        index = torch.arange(first_index, first_index + len(plans))
        prompt = self._embedded(PromptBatch(index, ids, condition_mask).to(device))
        if not fixed_mask.any():
            return prompt, None
        fixed = self._embedded(PromptBatch(index, ids, fixed_mask).to(device))
        return prompt, Infill(fixed.condition_mask, self._network_ids(fixed.input_ids), fixed.latents)

    def _embedded(self, prompt: PromptBatch) -> LatentPromptBatch:
        if prompt.condition_mask.any():
            self._embedder.encoder.to(prompt.index.device)
            with self.precision():
                return self._embedder.prompts(prompt)
        latents = torch.zeros(*prompt.input_ids.shape, self.latent_size, device=prompt.index.device)
        return LatentPromptBatch(**vars(prompt), latents=latents)

    @cached_property
    def _embedder(self) -> Embedder:
        identity = dict(self.decoding["encoder"])
        kind = identity.pop("class", None)
        if kind not in _ENCODERS:
            raise UserError(
                f"the model's encoder is of class {kind!r}, and this version of elf_lightning knows "
                f"{', '.join(_ENCODERS)}; use the version that wrote the checkpoint"
            )
        try:
            encoder = _ENCODERS[kind](**identity)
        except TypeError as error:
            raise UserError(
                f"the model's encoder is told by {', '.join(identity)}, which does not fit this version of "
                f"elf_lightning ({error}); use the version that wrote the checkpoint"
            ) from error
        if encoder.latent_size != self.latent_size:
            raise UserError(
                f"encoder '{encoder.name_or_path}' gives latents of size {encoder.latent_size}, but the "
                f"model was trained on size {self.latent_size}; it needs the encoder it was trained with"
            )
        return Embedder(encoder, LatentStatistics(self.decoding["latent_mean"], self.decoding["latent_std"]))

    @cached_property
    def _vocabulary(self) -> RestrictedVocabulary | None:
        kept = self.decoding["kept_ids"]
        if kept is None:
            return None
        return RestrictedVocabulary(kept, len(self.tokenizer), kept[self.decoding["unknown_id"]])

    def _ids(self, text: str) -> list[int]:
        """The tokenizer's ids, without special tokens: one that ends texts would cut off what follows."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)[
            "input_ids"
        ]
        return ids

    def _network_ids(self, ids: Tensor) -> Tensor:
        return ids if self._vocabulary is None else self._vocabulary.to_network(ids)

    def _tokenizer_id(self, network_id: int) -> int:
        kept: list[int] | None = self.decoding["kept_ids"]
        return network_id if kept is None else kept[network_id]

    def _check_known(self, text: str, ids: list[int]) -> None:
        """A token that the network does not know could not be in its text."""
        if self._vocabulary is None or not ids:
            return
        unknown = self._vocabulary.to_network(torch.tensor(ids)) == self._vocabulary.unknown_id
        if unknown.any():
            pieces = self.tokenizer.convert_ids_to_tokens(torch.tensor(ids)[unknown].tolist())
            raise UserError(
                f"{_short(text)}: the model's vocabulary has no {', '.join(map(repr, pieces))}; "
                "say it otherwise"
            )


def _texts(given: Sequence[str]) -> Sequence[str]:
    """A lone text is a list of one: the letters of a string are no prompts."""
    return [given] if isinstance(given, str) else given


def _short(text: str, limit: int = 40) -> str:
    return repr(text if len(text) <= limit else f"{text[:limit]}…")
