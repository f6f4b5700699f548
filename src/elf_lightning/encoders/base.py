"""The interface of frozen encoders, and their attention masks."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from elf_lightning.errors import UserError


class Encoder(nn.Module, ABC):
    """A frozen map from token ids to latents, (B, S) -> (B, S, C).

    The constructor reads only sizes; `load` reads weights, at the latest in the first `forward`. Encoders
    are always in eval mode, and their parameters do not require gradients.

    Attributes:
        name_or_path: source of its tokenizer: a folder, a Hub id or `package:NAME/FOLDER`.
        latent_size: C.
        max_length: maximum sequence length in tokens; None for no limit.
    """

    name_or_path: str
    latent_size: int
    max_length: int | None
    _loaded = False

    @abstractmethod
    def encode(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """Hidden states (B, S, C) of ids (B, S) under a boolean mask (B or 1, 1, S, S)."""

    @abstractmethod
    def load_weights(self) -> None:
        """Create the modules that `encode` needs."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Plain values that determine the latents, for cache keys and checkpoints."""

    def load(self) -> Self:
        """Read and freeze the weights, once; a `UserError` if that is not possible. Returns the encoder."""
        if not self._loaded:
            self.load_weights()
            self.requires_grad_(False)
            self._loaded = True
            self.eval()
        return self

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode."""
        return super().train(False)

    def forward(self, input_ids: Tensor, mask: Tensor | None) -> Tensor:
        """Latents (B, S, C) in float32, not yet normalised.

        Args:
            input_ids: (B, S) int64, tokenizer ids.
            mask: (B, S, S) or (B, 1, S, S) boolean, True where query position (row) attends to key (column);
                None if every position attends to all, which is faster.
        """
        self.load()
        if mask is None:  # one for the batch, since compiled models cannot do without
            length = input_ids.shape[1]
            mask = input_ids.new_ones(1, 1, length, length, dtype=torch.bool)
        return self.encode(input_ids, mask if mask.dim() == 4 else mask[:, None]).float()


def encoder_from_identity(identity: Mapping[str, Any]) -> Encoder:
    """The encoder with this `identity()`: `class`, its name, and its constructor arguments.

    Its weights are read on first use. Only imported classes are found: a checkpoint must not import code.
    An unknown class, or one that does not take these arguments, is a `UserError`.
    """
    from elf_lightning.encoders import pretrained, token_table  # noqa: F401  # the classes of this package

    arguments = dict(identity)
    name = arguments.pop("class", None)
    classes: list[type[Encoder]] = [Encoder]  # type: ignore[type-abstract]
    for one in classes:
        classes += one.__subclasses__()  # which the loop reaches, too
    known = {one.__name__: one for one in classes[1:]}
    if name not in known:
        raise UserError(
            f"the model's encoder has the class {name!r}, but only {', '.join(sorted(known))} are imported; "
            "import the module that defines it first"
        )
    try:
        return known[name](**arguments)
    except TypeError as error:
        raise UserError(
            f"the arguments of the model's encoder, {', '.join(arguments)}, do not fit this version of "
            f"{name} ({error}); use the version that wrote the checkpoint"
        ) from error


def encoder_mask(attention_mask: Tensor, condition_mask: Tensor, label_drop: Tensor | None = None) -> Tensor:
    """Boolean mask (B, S, S), True where query position (row) attends to key (column) (arXiv 2605.10938).

    Condition positions attend to condition positions; all others attend to every valid position, except
    that they ignore the condition in label-dropped sequences. The masks are (B, S), `label_drop` is (B,), all
    boolean.
    """
    sees_condition, sees_all = condition_mask & attention_mask, attention_mask
    if label_drop is not None:
        sees_all = attention_mask & ~(condition_mask & label_drop[:, None])
    return torch.where(condition_mask[:, :, None], sees_condition[:, None, :], sees_all[:, None, :])


def additive_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """The mask as an addend to attention scores: 0 where allowed, `finfo(dtype).min` elsewhere.

    In transformers 5, only this form works for both T5 and BERT, with eager and sdpa attention. The lowest
    finite number instead of -inf avoids NaN where a position attends to nothing.
    """
    zeros = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return zeros.masked_fill_(~mask, torch.finfo(dtype).min)
