"""Initial weights from another run or a published model."""

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from elf_lightning.checkpoints import load_model
from elf_lightning.checkpoints.config import check_weights
from elf_lightning.codec import TextCodec
from elf_lightning.errors import UserError, errors_about
from elf_lightning.network import ELFNetwork

TOLERANCE = 0.05  # maximum difference, in standard deviations, between equivalent normalisations
TOKEN_ROWS = ("token_head.unembed.weight", "token_head.unembed.bias")
"""The weights with one row per token of the vocabulary."""


class InitialWeights:
    """The averaged weights of a checkpoint, loaded into a network whose length and vocabulary may differ.

    The rows of the token head wait for `fit_vocabulary`, since only the data say which tokens they stand for.
    Messages name the `setting` where the user gave the checkpoint.
    """

    def __init__(self, network: ELFNetwork, name_or_path: str, setting: str = "model.init_from") -> None:
        self.network = network
        self.setting = f"{setting} {name_or_path}"
        with errors_about(self.setting):
            bundle = load_model(name_or_path)
            own = network.state_dict()
            rows = {name: bundle.weights[name] for name in TOKEN_ROWS}
            # Without a codec nothing is known about the tokens: there have to be equally many.
            check_weights(bundle.weights, own | rows if bundle.config.codec else own)
        self.config, self.rows = bundle.config, rows
        if bundle.config.vocab_size == network.vocab_size:
            own |= rows
        network.load_state_dict({**bundle.weights, **{name: own[name] for name in TOKEN_ROWS}})

    def fit_vocabulary(self, data: TextCodec | None) -> None:
        """Take the token head's rows by tokenizer id, and say what was taken and what is new.

        Tokens that the checkpoint does not know start as its unknown token. Latents with another
        normalisation are a warning: training adapts, from a worse start. Without a codec of the data, only
        a vocabulary of the same size can be taken.
        """
        taken = ["weights taken"]
        own = self.config.codec
        other_size = self.config.vocab_size != self.network.vocab_size
        if own and (other_size or (data and own.kept_ids != data.kept_ids)):
            taken.append(self._take_rows(own, data))
        if self.config.max_length != self.network.max_length:
            taken.append(f"sequences of {self.network.max_length} tokens instead of {self.config.max_length}")
        rank_zero_info(f"{self.setting}: {'; '.join(taken)}")
        if own is None or data is None:
            return
        shift = torch.tensor(own.latent_mean) - torch.tensor(data.latent_mean)
        scale = abs(own.latent_std - data.latent_std)
        if max(float(shift.abs().max()), scale) > TOLERANCE * own.latent_std:
            rank_zero_warn(
                f"{self.setting}: the weights were trained on latents with another normalisation; set "
                "data.latent_mean and data.latent_std to the values they were trained with"
            )

    def _take_rows(self, own: TextCodec, data: TextCodec | None) -> str:
        """Fill the token head; returns how many tokens are known and new."""
        size = self.network.vocab_size
        if data is None:
            raise UserError(
                f"{self.setting}: the weights have {self.config.vocab_size} tokens (here {size}), and the "
                "data do not name theirs; train on an ELFDataModule, or with a vocabulary of the same size"
            )
        same_name = own.tokenizer == data.tokenizer
        if not (same_name or own.text_tokenizer.get_vocab() == data.text_tokenizer.get_vocab()):
            raise UserError(
                f"{self.setting}: the weights were trained with the tokenizer '{own.tokenizer}' (here "
                f"'{data.tokenizer}'); choose an encoder with the same tokenizer"
            )
        rows = {token: row for row, token in enumerate(own.kept_ids or range(self.config.vocab_size))}
        tokens = data.kept_ids or range(size)
        known = sum(token in rows for token in tokens)
        unknown = own.unknown_id or 0  # only a restricted vocabulary lacks tokens
        chosen = torch.tensor([rows.get(token, unknown) for token in tokens])
        self.network.load_state_dict({name: self.rows[name][chosen] for name in TOKEN_ROWS}, strict=False)
        return f"of {size:,} tokens, {known:,} are known to it and {size - known:,} new"
