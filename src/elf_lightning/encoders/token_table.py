"""A frozen table of token vectors, the non-contextual ablation of the paper."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from elf_lightning.encoders.base import Encoder
from elf_lightning.encoders.hugging_face import encoder_sizes, read_config, read_model
from elf_lightning.errors import UserError


class TokenTableEncoder(Encoder):
    """One frozen vector per token, without context (arXiv 2605.10938, ablation of the embeddings).

    A model that cannot be found, or a `latent_size` unlike a pretrained table's, is a `UserError`.

    Args:
        name_or_path: pretrained model that provides the tokenizer and, for `pretrained`, the table.
        table: `gaussian` draws unit-normal vectors; `pretrained` uses the model's input embeddings.
        latent_size: C of the gaussian table; by default the model's.
        vocab_size: number of vectors in the gaussian table; by default the model's.
        seed: of the gaussian table.
    """

    vectors: Tensor

    def __init__(
        self,
        name_or_path: str,
        table: Literal["gaussian", "pretrained"] = "gaussian",
        latent_size: int | None = None,
        vocab_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.name_or_path, self.table, self.seed, self.max_length = name_or_path, table, seed, None
        self._config = read_config(name_or_path)
        sizes = encoder_sizes(self._config)
        rows, columns = sizes.vocab_size, sizes.hidden_size
        self.latent_size, self.vocab_size = latent_size or columns, vocab_size or rows
        if table == "pretrained" and (self.vocab_size, self.latent_size) != (rows, columns):
            raise UserError(
                f"encoder latent_size {self.latent_size}: the pretrained table of '{name_or_path}' is "
                f"{rows} x {columns}; leave latent_size and vocab_size out"
            )

    def load_weights(self) -> None:  # noqa: D102
        if self.table == "pretrained":
            model: Any = read_model(self.name_or_path, self._config, None)
            vectors = model.get_input_embeddings().weight
        else:
            generator = torch.Generator().manual_seed(self.seed)
            vectors = torch.randn(self.vocab_size, self.latent_size, generator=generator)
        self.register_buffer("vectors", vectors.detach().float(), persistent=False)

    def encode(self, input_ids: Tensor, mask: Tensor) -> Tensor:  # noqa: D102
        return F.embedding(input_ids, self.vectors)

    def identity(self) -> dict[str, Any]:  # noqa: D102
        names = ("name_or_path", "table", "latent_size", "vocab_size", "seed")
        return {"class": "TokenTableEncoder"} | {name: getattr(self, name) for name in names}
