"""Which token ids the network knows: all of the tokenizer's, or only those that occur in the corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import torch
from torch import Tensor

from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PadMode = Literal["pad", "eos"]


@dataclass(frozen=True)
class SpecialIds:
    """The tokenizer's ids with a meaning of their own.

    Attributes:
        eos: ends a text: `eos_token`, else `sep_token`.
        fill: fills rows: the pad id, or EOS in pad mode `eos`.
        pad: the pad id; EOS where the tokenizer has none.
        unknown: the id of unknown pieces, if there is one.
    """

    eos: int
    fill: int
    pad: int
    unknown: int | None

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, pad_mode: PadMode) -> Self:
        """Read them from a tokenizer.

        Raises:
            UserError: if it has neither EOS nor SEP, or no pad token where `pad_mode` needs one.
        """
        name = tokenizer.name_or_path
        eos = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        if eos is None:
            raise UserError(
                f"tokenizer '{name}' has neither an EOS nor a SEP token, so no text could end; "
                "use one with `eos_token` or `sep_token`"
            )
        pad = tokenizer.pad_token_id
        if pad is None and pad_mode == "pad":
            raise UserError(f"tokenizer '{name}' has no pad token; set data.pad_mode to eos")
        return cls(
            eos=eos,
            fill=eos if pad_mode == "eos" else pad,
            pad=eos if pad is None else pad,
            unknown=tokenizer.unk_token_id,
        )


class RestrictedVocabulary:
    """A small vocabulary over the pieces that a corpus uses.

    Args:
        kept: tokenizer ids that the network knows, ascending; network id `i` stands for `kept[i]`.
        tokenizer_size: number of ids of the tokenizer.
        unknown: the tokenizer's id for unknown pieces, one of `kept`; all other ids map to it.
    """

    def __init__(self, kept: Sequence[int], tokenizer_size: int, unknown: int) -> None:
        self.kept = list(kept)
        self.unknown_id = self.kept.index(unknown)
        self._to_network = torch.full((tokenizer_size,), self.unknown_id)
        self._to_network[torch.tensor(self.kept)] = torch.arange(len(self.kept))

    def __len__(self) -> int:
        return len(self.kept)

    def to_network(self, ids: Tensor) -> Tensor:
        """Network ids of tokenizer ids, any shape; pieces outside become `unknown_id`."""
        if self._to_network.device != ids.device:
            self._to_network = self._to_network.to(ids.device)
        return self._to_network[ids]
