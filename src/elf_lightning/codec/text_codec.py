"""The contract between data, checkpoint and generation."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property, lru_cache
from itertools import compress
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from elf_lightning.codec.latents import Embedder, LatentStatistics
from elf_lightning.codec.vocabulary import PadMode, RestrictedVocabulary, Vocabulary
from elf_lightning.codec.word_pieces import KnownWords, decoded, piece_prefix, spaced_pieces
from elf_lightning.encoders import Encoder, encoder_from_identity, read_tokenizer
from elf_lightning.encoders.hugging_face import token_ids
from elf_lightning.errors import UserError, check_types

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REPLACEMENT_CHARACTER = "\N{REPLACEMENT CHARACTER}"
"""Byte-level tokenizers decode incomplete characters to this."""
TOLERANCE = 1e-3
"""Absolute and relative difference in latent statistics that may be due to precision or device."""
SETTINGS = {
    "tokenizer": "data.encoder",
    "encoder": "data.encoder",
    "kept_ids": "data.restrict_vocabulary",
    "pad_mode": "data.pad_mode",
    "eos_id": "the tokenizer of data.encoder",
    "pad_id": "the tokenizer of data.encoder",
    "unknown_id": "the tokenizer of data.encoder",
    "max_condition_length": "data.max_condition_length",
    "condition_eos": "data.condition_eos",
    "bos_eos": "data.packing",
    "latent_mean": "data.latent_mean",
    "latent_std": "data.latent_std",
}
"""The entries that must agree -> the setting that determines each."""


@dataclass(frozen=True)
class TextCodec:
    """Text <-> token ids <-> latents, as plain values stored in checkpoints.

    Network ids differ from tokenizer ids if the vocabulary is restricted to the tokens of the training text.

    Attributes:
        tokenizer: folder, Hub id or `package:NAME/FOLDER`.
        encoder: `Encoder.identity()` of the frozen encoder.
        latent_mean: subtracted from the encoder's output; one number, or one per channel.
        latent_std: divides the result.
        max_length: maximum sequence length in tokens, S.
        pad_id: network id of padding.
        eos_id: network id that ends a text.
        pad_mode: what fills sequences: the pad id, which is not learned, or EOS, which is.
        max_condition_length: maximum length of a condition in tokens; None for unconditional text.
        condition_eos: whether conditions end with EOS.
        bos_eos: whether sequences begin with the EOS id, as GPT-2's BOS, and end with it; then those between
            are part of the text.
        kept_ids: tokenizer id of each network id, ascending; None if they are the same.
        unknown_id: network id of tokens outside a restricted vocabulary.
        loaded_encoder: the encoder, if it is already in memory; not stored.
        words: words of the training text that are several tokens each; in a file of their own.
    """

    tokenizer: str
    encoder: Mapping[str, Any]
    latent_mean: float | list[float]
    latent_std: float
    max_length: int
    pad_id: int
    eos_id: int
    pad_mode: PadMode = "pad"
    max_condition_length: int | None = None
    condition_eos: bool = False
    bos_eos: bool = False
    kept_ids: list[int] | None = None
    unknown_id: int | None = None
    loaded_encoder: Encoder | None = field(default=None, compare=False, repr=False)
    words: Sequence[str] | None = field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The codec in plain types, for `from_dict`."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.compare}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The codec described by `values`; a `UserError` if an entry is missing or unknown."""
        if missing := [f.name for f in fields(cls) if f.default is MISSING and f.name not in values]:
            raise UserError(
                f"the model's description has no entry 'codec.{missing[0]}'; use a complete copy of the file"
            )
        if unknown := sorted(values.keys() - {f.name for f in fields(cls) if f.compare}):
            raise UserError(
                f"the model's description has an entry 'codec.{unknown[0]}' that this version of "
                "elf_lightning does not know; upgrade it"
            )
        return cls(**values)

    def check_sizes(self, latent_size: int, vocab_size: int) -> None:
        """Refuse values that do not fit a network of C latent channels and V tokens."""
        check_types(self, "codec.")
        ids, kept = range(vocab_size), self.kept_ids
        possible = {
            "encoder": isinstance(self.encoder.get("name_or_path"), str),
            "kept_ids": kept is None or (len(kept) == vocab_size and min(kept) >= 0),
            "latent_mean": not isinstance(self.latent_mean, list) or len(self.latent_mean) == latent_size,
            "latent_std": self.latent_std > 0,
            "pad_id": self.pad_id in ids,
            "eos_id": self.eos_id in ids,
            "unknown_id": self.unknown_id in ids if self.kept_ids else self.unknown_id is None,
        }
        for name in (name for name, fits in possible.items() if not fits):
            raise UserError(
                f"the model's description has the codec.{name} {getattr(self, name)!r:.40}, which does not "
                f"fit a network of {latent_size} latent channels and {vocab_size} tokens; copy the file again"
            )

    def check_compatible(self, current: Self) -> None:
        """Refuse the codec of data whose ids or latents have another meaning, naming the setting."""
        checkpoint, data = self.to_dict(), current.to_dict()
        for name, setting in SETTINGS.items():
            was, here = checkpoint[name], data[name]
            values = {name: (was, here)}
            if name == "encoder":  # the entries that both have
                values = {f"encoder {one}": (was[one], here[one]) for one in sorted(was.keys() & here.keys())}
            for entry, (was, here) in values.items():
                if not _same(entry, was, here):
                    raise UserError(
                        f"the checkpoint was trained on other data: {setting}: {entry} {_abbreviated(was)} "
                        f"(here {_abbreviated(here)}); use the configuration and text it was trained with, "
                        "or start a new run from its weights with model.init_from"
                    )

    @cached_property
    def text_tokenizer(self) -> "PreTrainedTokenizerBase":
        """The tokenizer; a `UserError` if it cannot be read, or has fewer tokens than in training."""
        with _perhaps_moved():
            tokenizer = read_tokenizer(self.tokenizer)
        if self.kept_ids is not None and max(self.kept_ids) >= len(tokenizer):
            raise UserError(
                f"tokenizer '{self.tokenizer}' has {len(tokenizer)} tokens, fewer than the model was trained "
                "with; use the tokenizer it was trained with"
            )
        return tokenizer

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Maps tokenizer ids to network ids."""
        size = len(self.text_tokenizer)
        if self.kept_ids is None or self.unknown_id is None:
            return Vocabulary(size)
        return RestrictedVocabulary(self.kept_ids, size, self.kept_ids[self.unknown_id])

    def tokenizer_id(self, network_id: int) -> int:
        """The tokenizer id of a network id."""
        return network_id if self.kept_ids is None else self.kept_ids[network_id]

    def encode(self, text: str) -> list[int]:
        """The tokenizer ids of a text, without EOS; names of special tokens in it are ordinary text."""
        return token_ids(self.text_tokenizer, [text])[0]

    def sequence(self, text: str, length: int) -> list[int]:
        """The tokenizer ids of a text as a sequence of at most `length`: with EOS where there is room."""
        eos = [self.tokenizer_id(self.eos_id)]
        if self.bos_eos:
            return [*eos, *self.encode(text)[: length - 2], *eos]
        return [*self.encode(text), *eos][:length]

    def decode(self, ids: Tensor | Sequence[Sequence[int]]) -> list[str]:
        """The text of each sequence of network ids (N, S), without padding and EOS.

        Word pieces (BERT) are set as in print, without the spaces that their decoder leaves around marks.
        """
        sequences = ids.tolist() if isinstance(ids, Tensor) else ids
        skipped = {self.pad_id, self.eos_id}
        kept = [[self.tokenizer_id(one) for one in ids if one not in skipped] for ids in sequences]
        return decoded(self.text_tokenizer, kept)

    def token_texts(self, ids: Sequence[int]) -> list[str]:
        """The text of each network id, with the space before it; empty for padding and EOS."""
        kept = [one not in (self.pad_id, self.eos_id) for one in ids]
        tokens = [self.tokenizer_id(one) for one in compress(ids, kept)]
        prefix = piece_prefix(self.text_tokenizer)
        if prefix is None:
            pairs = zip([None, *tokens], tokens, strict=False)
            new = [self._token_text(*pair) for pair in pairs]
        else:
            new = spaced_pieces(self.text_tokenizer.convert_ids_to_tokens(tokens), prefix)
        texts = iter(new)
        return [next(texts) if keep else "" for keep in kept]

    @cached_property
    def known_words(self) -> KnownWords:
        """The words that sampling with `known_words` keeps to; a `UserError` without a list of them."""
        tokenizer, unknown = self.text_tokenizer, self.unknown_id
        prefix = piece_prefix(tokenizer)
        if self.words is None or prefix is None:
            raise UserError(
                "sampling.known_words is true, but the model has no list of words; set it to false, or add "
                "one (for word pieces): elf convert CHECKPOINT FOLDER --format hub --words TEXTS"
            )
        network_ids = self.vocabulary.to_network(torch.arange(len(tokenizer))).tolist()
        spelled = token_ids(tokenizer, list(self.words)) if self.words else []
        words = [[network_ids[one] for one in ids] for ids in spelled]
        inside = {network_ids[i] for piece, i in tokenizer.get_vocab().items() if piece.startswith(prefix)}
        return KnownWords((word for word in words if unknown not in word), inside - {unknown})

    @cached_property
    def _token_text(self) -> Any:
        """Memoised: the text that a tokenizer id adds after another."""

        @lru_cache(100_000)
        def token_text(before: int | None, token: int) -> str:
            context = [] if before is None else [before]
            decoded = self.text_tokenizer.batch_decode([context, [*context, token], [token]])
            start, both, alone = (text.strip(REPLACEMENT_CHARACTER) for text in decoded)
            return both.removeprefix(start) if both.startswith(start) else alone

        return token_text

    @cached_property
    def embedder(self) -> Embedder:
        """The frozen encoder with normalised latents; a `UserError` if the stored values do not give one."""
        with _perhaps_moved():
            encoder = self.loaded_encoder or encoder_from_identity(self.encoder)
        return Embedder(encoder, LatentStatistics(self.latent_mean, self.latent_std))


@contextmanager
def _perhaps_moved() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{error}. If the encoder has moved, say where it is with --encoder") from error


def _same(entry: str, checkpoint: Any, data: Any) -> bool:
    if entry in ("tokenizer", "encoder name_or_path"):  # a moved folder contains the same model
        return PurePath(checkpoint).name == PurePath(data).name
    if entry in ("latent_mean", "latent_std"):
        was, here = (torch.tensor(value, dtype=torch.float64) for value in (checkpoint, data))
        return bool(torch.isclose(was, here, rtol=TOLERANCE, atol=TOLERANCE).all())
    return bool(checkpoint == data)


def _abbreviated(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return f"{len(value)} values, {', '.join(map(_abbreviated, value[:3]))}, …"
    return str(value)
