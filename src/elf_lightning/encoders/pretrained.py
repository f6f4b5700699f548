"""Frozen Hugging Face encoders: the T5, T5Gemma and BERT families, and causal language models."""

import logging
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elf_lightning.compiling import computes_in_bfloat16, require_compiler, room_for_graphs
from elf_lightning.encoders.base import Encoder, additive_mask
from elf_lightning.encoders.hugging_face import (
    encoder_sizes,
    position_limit,
    read_config,
    read_model,
    read_tokenizer,
)
from elf_lightning.errors import UserError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)
COMPILED_ON = ("cuda",)  # kinds of devices on which encoders are compiled
Attention = Literal["eager", "sdpa"]
CLOSING_NORMS = ("final_layer_norm", "final_norm", "norm", "ln_f")
"""Names of the normalisation after the last block in T5, ModernBERT, T5Gemma, Llama and GPT-2."""


class PretrainedEncoder(Encoder):
    """The hidden states of a pretrained encoder, of an encoder-decoder's encoder, or of a causal model.

    A causal model keeps its causal mask: a latent at position i does not change with tokens after i, and the
    mask of `forward` only restricts it further. Whether a model is causal is found from what it computes.
    A model that cannot be found, or has no such layer, is a `UserError`.

    Args:
        name_or_path: folder, GGUF file, Hub id, or `package:NAME/PATH` for a folder or GGUF file inside an
            installed package.
        layer: use the output of this block (from 1, as in `hidden_states[layer]`), and remove the blocks
            above it; None uses the final output.
        attn_implementation: `eager` or `sdpa`, the only ones that accept a mask per position; None uses
            `sdpa`, the faster one, if available for the model.
        start_token: a token of the tokenizer that the encoder reads before every sequence, such as
            `<|endoftext|>`; it has no latent itself. Causal models give the first token they read a hidden
            state ten times as large as any other, which then is not a token of the text.
        unit_rms: divide each position's hidden state by its root mean square, as the next block of a pre-norm
            model would: the blocks of causal models leave sizes that differ tenfold between positions.
        compile: on a GPU under bfloat16 mixed precision, run a compiled copy of the model with bfloat16
            weights, several times as fast; False runs the model as it is.
    """

    def __init__(
        self,
        name_or_path: str,
        layer: int | None = None,
        attn_implementation: Attention | None = None,
        start_token: str | None = None,
        unit_rms: bool = False,
        compile: bool = True,
    ) -> None:
        super().__init__()
        if attn_implementation not in (None, *get_args(Attention)):
            raise UserError(
                f"encoder attn_implementation '{attn_implementation}' does not accept a mask per position; "
                f"choose {' or '.join(get_args(Attention))}"
            )
        self.name_or_path, self.layer, self.attn_implementation = name_or_path, layer, attn_implementation
        self.start_token, self.unit_rms, self.compile_model = start_token, unit_rms, compile
        self._config = read_config(name_or_path)
        sizes = encoder_sizes(self._config)
        self.latent_size, self.depth = int(sizes.hidden_size), int(sizes.num_hidden_layers)
        limit = position_limit(sizes)
        self.max_length = limit if limit is None or start_token is None else limit - 1
        if layer is not None and not 1 <= layer <= self.depth:
            raise UserError(
                f"encoder layer {layer} does not exist: '{name_or_path}' has {self.depth} layers; "
                f"choose 1 to {self.depth}"
            )

    def load_weights(self) -> None:  # noqa: D102
        self._start_id: int | None = None
        if self.start_token is not None:
            self._start_id = read_tokenizer(self.name_or_path).get_vocab().get(self.start_token)
            if self._start_id is None:
                raise UserError(
                    f"encoder start_token '{self.start_token}' is not a token of '{self.name_or_path}'; "
                    "choose one that is, such as its BOS or EOS token"
                )
        self.model = read_model(self.name_or_path, self._config, self.attn_implementation)
        if self.layer is not None and self.layer < self.depth:
            _keep_blocks(self.model, self.depth, self.layer)
        self.model.config.use_cache = False  # or causal models keep the keys and values of every block
        self.bfloat16_model: PreTrainedModel | None = None
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            self._find_masking()

    def encode(self, input_ids: Tensor, mask: Tensor) -> Tensor:  # noqa: D102
        if self._start_id is not None:  # a position before the first: all see it, it sees itself
            input_ids, mask = F.pad(input_ids, (1, 0), value=self._start_id), F.pad(mask, (1, 0, 1, 0))
            mask[..., 0] = True
        mask = mask.tril() if self.causal else mask
        if (hidden := self._compiled_hidden_states(input_ids, mask)) is None:
            hidden = self._hidden_states(self.model, input_ids, mask)
        if self._start_id is not None:
            hidden = hidden[:, 1:]
        return F.rms_norm(hidden.float(), hidden.shape[-1:]) if self.unit_rms else hidden

    def identity(self) -> dict[str, Any]:  # noqa: D102
        identity = {"class": "PretrainedEncoder", "name_or_path": self.name_or_path, "layer": self.layer}
        # Left out where they change nothing, so that checkpoints written before they existed stay the same.
        added = {"start_token": self.start_token, "unit_rms": self.unit_rms}
        return identity | {name: value for name, value in added.items() if value}

    @staticmethod
    def _hidden_states(model: "PreTrainedModel", input_ids: Tensor, mask: Tensor) -> Tensor:
        """The hidden states (B, S, C) of ids (B, S) under just this boolean mask (B, 1, S, S)."""
        device = input_ids.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else model.dtype
        output = model(input_ids=input_ids, attention_mask=additive_mask(mask, dtype))
        hidden: Tensor = output.last_hidden_state
        return hidden

    def _compiled_hidden_states(self, input_ids: Tensor, mask: Tensor) -> Tensor | None:
        """The same from a compiled copy in bfloat16; None where that is not wanted, or not possible."""
        device, kind = input_ids.device, input_ids.device.type
        if not (self.compile_model and kind in COMPILED_ON and computes_in_bfloat16(kind)):
            return None
        from torch._dynamo.exc import TorchDynamoException  # takes a second: imported only to compile

        try:
            if self.bfloat16_model is None:
                require_compiler("encoder compile", device)
                with torch.inference_mode(False):  # validation may come first, training needs it too
                    self.bfloat16_model = deepcopy(self.model).bfloat16()
                self.bfloat16_model.compile(**room_for_graphs())
            with torch.autocast(kind, enabled=False):
                return self._hidden_states(self.bfloat16_model, input_ids, mask)
        except (TorchDynamoException, UserError) as error:
            self.compile_model, self.bfloat16_model = False, None
            logger.warning(
                "encoder '%s' runs uncompiled, which is slower (%s)", self.name_or_path, first_line(error)
            )
            return None

    def _find_masking(self) -> None:
        """Refuse a model that silently interprets the mask differently; see whether it is causal."""
        ids = torch.tensor([[3, 4, 5, 4], [6, 4, 5, 4]])
        half = torch.tensor([0, 0, 1, 1])
        halves = (half[:, None] == half).expand(2, 1, 4, 4)
        try:
            one, other = self._hidden_states(self.model, ids, halves)
            applied = torch.allclose(one[2:], other[2:], atol=1e-4) and not torch.equal(one[1], other[1])
        except (RuntimeError, TypeError, ValueError):
            applied = False
        if not applied:
            raise UserError(
                f"encoder '{self.name_or_path}': {type(self.model).__name__} does not apply a mask per "
                "position; choose a model of the T5, T5Gemma or BERT families, or a causal language model of "
                "the GPT-2 or Llama families"
            )
        # Whether the model, left to itself, keeps a position from seeing what comes after it.
        one, other = self.model(input_ids=torch.tensor([[3, 4], [3, 5]])).last_hidden_state
        self.causal = torch.allclose(one[0], other[0], rtol=0, atol=1e-6)


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
