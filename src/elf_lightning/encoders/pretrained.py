"""Frozen Hugging Face encoders: the T5, T5Gemma and BERT families."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from elf_lightning.encoders.base import Encoder
from elf_lightning.encoders.hugging_face import encoder_sizes, position_limit, read_config, read_model
from elf_lightning.encoders.mask import additive_mask
from elf_lightning.errors import UserError

Attention = Literal["eager", "sdpa"]
CLOSING_NORMS = ("final_layer_norm", "final_norm", "norm")
"""Names of the normalisation after the last block in T5, ModernBERT and T5Gemma."""


class PretrainedEncoder(Encoder):
    """The hidden states of a pretrained encoder, or of an encoder-decoder's encoder.

    Args:
        name_or_path: folder, Hub id, or `package:NAME/FOLDER` for a model inside an installed package.
        layer: use the output of this block (from 1, as in `hidden_states[layer]`), and remove the blocks
            above it; None uses the final output.
        attn_implementation: `eager` or `sdpa`, the only ones that accept a mask per position; None uses
            `sdpa`, the faster one, if available for the model.

    Raises:
        UserError: if the model cannot be found or has no such layer.
    """

    def __init__(
        self, name_or_path: str, layer: int | None = None, attn_implementation: Attention | None = None
    ) -> None:
        super().__init__()
        if attn_implementation not in (None, *get_args(Attention)):
            raise UserError(
                f"encoder attn_implementation '{attn_implementation}' does not accept a mask per position; "
                f"choose {' or '.join(get_args(Attention))}"
            )
        self.name_or_path = name_or_path
        self.layer = layer
        self.attn_implementation = attn_implementation
        self._config = read_config(name_or_path)
        sizes = encoder_sizes(self._config)
        self.latent_size: int = sizes.hidden_size
        self.depth: int = sizes.num_hidden_layers
        self.max_length = position_limit(sizes)
        if layer is not None and not 1 <= layer <= self.depth:
            raise UserError(
                f"encoder layer {layer} does not exist: '{name_or_path}' has {self.depth} layers; "
                f"choose 1 to {self.depth}"
            )

    def load_weights(self) -> None:  # noqa: D102
        model = read_model(self.name_or_path, self._config, self.attn_implementation)
        if self.layer is not None and self.layer < self.depth:
            _keep_blocks(model, self.depth, self.layer)
        self.model = model
        self._check_mask()

    def encode(self, input_ids: Tensor, mask: Tensor) -> Tensor:  # noqa: D102
        device = input_ids.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else self.model.dtype
        output = self.model(input_ids=input_ids, attention_mask=additive_mask(mask, dtype))
        hidden: Tensor = output.last_hidden_state
        return hidden

    def identity(self) -> dict[str, Any]:  # noqa: D102
        return {"class": "PretrainedEncoder", "name_or_path": self.name_or_path, "layer": self.layer}

    @torch.no_grad()
    def _check_mask(self) -> None:
        """Check that the model applies the mask: some silently interpret it differently.

        Raises:
            UserError: if it does not.
        """
        ids = torch.tensor([[3, 4, 5], [3, 4, 6]])
        mask = torch.ones(2, 1, 3, 3, dtype=torch.bool)
        mask[..., 0, 1:] = False
        try:
            with torch.autocast("cpu", enabled=False):
                first, second = self.encode(ids, mask)
            applied = torch.allclose(first[0], second[0], atol=1e-4) and not torch.equal(first[1], second[1])
        except (RuntimeError, TypeError, ValueError):
            applied = False
        if not applied:
            raise UserError(
                f"encoder '{self.name_or_path}': {type(self.model).__name__} does not apply a mask per "
                "position; choose a model of the T5, T5Gemma or BERT families"
            )


def _keep_blocks(model: nn.Module, depth: int, layer: int) -> None:
    """Remove the blocks after the first `layer` of `depth`, and the final normalisation."""
    for stack in model.modules():
        for blocks in stack.children():
            if isinstance(blocks, nn.ModuleList) and len(blocks) == depth:
                del blocks[layer:]
                for name in CLOSING_NORMS:
                    if hasattr(stack, name):
                        setattr(stack, name, nn.Identity())
                return
    raise UserError(
        f"encoder layer {layer}: found no stack of {depth} blocks in {type(model).__name__}; leave layer out"
    )
