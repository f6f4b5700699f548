"""The network's vocabulary: all tokens of the tokenizer, or those that occur in the corpus."""

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
    """The special ids of a tokenizer.

    Attributes:
        eos: ends a text: `eos_token`, else `sep_token`.
        pad: the pad id; EOS if the tokenizer has no pad token.
        fill: fills sequences: the pad id, or EOS in pad mode `eos`.
        unknown: the id of the unknown token; None if the tokenizer has none.
    """

    eos: int
    pad: int
    fill: int
    unknown: int | None

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase", pad_mode: PadMode, restricted: bool = False) -> Self:
        """Read them from a tokenizer; a `UserError` if it lacks EOS and SEP, or a token that is needed."""
        name, pad = tokenizer.name_or_path, tokenizer.pad_token_id
        eos = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        if eos is None:
            raise UserError(
                f"tokenizer '{name}' has neither an EOS nor a SEP token to end texts with; "
                "use one with `eos_token` or `sep_token`"
            )
        if pad is None and pad_mode == "pad":
            raise UserError(f"tokenizer '{name}' has no pad token; set data.pad_mode to eos")
        if restricted and tokenizer.unk_token_id is None:
            raise UserError(
                f"data.restrict_vocabulary true: tokenizer '{name}' has no unknown token for the tokens "
                "outside the vocabulary; set it to false"
            )
        pad = eos if pad is None else pad
        return cls(eos, pad, eos if pad_mode == "eos" else pad, tokenizer.unk_token_id)


class Vocabulary:
    """The full vocabulary of `size` ids: network ids are tokenizer ids.

    Attributes:
        kept_ids: tokenizer id of each network id; None if they are the same.
        unknown_id: network id of tokens outside the vocabulary; None for the full vocabulary.
    """

    kept_ids: list[int] | None = None
    unknown_id: int | None = None

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def network_id(self, token: int) -> int:
        """The network id of a tokenizer id."""
        return int(self.to_network(torch.tensor(token)))

    def to_network(self, ids: Tensor) -> Tensor:
        """Network ids of tokenizer ids, any shape."""
        return ids


class RestrictedVocabulary(Vocabulary):
    """The tokens that occur in a corpus, `kept` by tokenizer id, ascending; network id `i` is `kept[i]`.

    All others of the `tokenizer_size` ids map to `unknown`, the tokenizer id of one of `kept`.
    """

    def __init__(self, kept: Sequence[int], tokenizer_size: int, unknown: int) -> None:
        super().__init__(len(kept))
        self.kept_ids: list[int] = list(kept)
        self.unknown_id: int = self.kept_ids.index(unknown)
        self._table = torch.full((tokenizer_size,), self.unknown_id)
        self._table[torch.tensor(self.kept_ids)] = torch.arange(len(self.kept_ids))

    def to_network(self, ids: Tensor) -> Tensor:  # noqa: D102
        self._table = self._table.to(ids.device)
        return self._table[ids]
