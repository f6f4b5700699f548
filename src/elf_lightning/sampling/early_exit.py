"""Early exit: no more steps for sequences whose tokens are final."""

from __future__ import annotations

import torch
from torch import Tensor

from elf_lightning.network import ELFNetwork
from elf_lightning.sampling.decode import most_likely
from elf_lightning.sampling.settings import SamplingSettings


class EarlyExit:
    """Ends each sequence on its own, at its estimate `x_hat`, as an Euler step to t=1 would.

    A check decodes `x_hat` at t=1. A token is final if it is that of the check before and its
    logit exceeds the second largest by more than `early_exit_margin`. A sequence ends once at least
    `early_exit_fraction` of its generated positions, up to its first EOS, are final. Checks follow every
    eighth of the steps in their second half. Each is a network call for the sequences that still run; those
    that have ended cost nothing more. The host waits for the device at each call.

    Args:
        network: decodes.
        settings: margin, fraction, steps and guidance scale.
        generated: (B, S) boolean, False at condition and infilled positions.
        eos_id: the token that ends a text.

    Attributes:
        running: (B,) boolean, False for sequences that have ended; changed in place.
    """

    def __init__(
        self, network: ELFNetwork, settings: SamplingSettings, generated: Tensor, eos_id: int
    ) -> None:
        self.network = network
        self.settings = settings
        self.generated = generated
        self.eos_id = eos_id
        self.running = torch.ones_like(generated[:, 0])
        self._tokens = torch.full(generated.shape, -1, device=generated.device)

    def due(self, number: int) -> bool:
        """Whether to check after step `number`."""
        done, steps = number + 1, self.settings.num_steps
        return steps <= 2 * done < 2 * steps and done % max(1, steps // 8) == 0

    def check(self, x_hat: Tensor) -> bool:
        """End sequences whose tokens are final; True once all have ended.

        Args:
            x_hat: (B, S, C) the last estimate.
        """
        running = self.running.nonzero().squeeze(1)
        tokens, margins = most_likely(self.network, x_hat[running], self.settings.guidance)
        generated = self.generated[running]
        is_eos = (tokens == self.eos_id) & generated
        counted = generated & (is_eos.cumsum(dim=1) - is_eos.long() == 0)
        final = (tokens == self._tokens[running]) & (margins > self.settings.early_exit_margin) & counted
        ended = final.sum(dim=1) >= self.settings.early_exit_fraction * counted.sum(dim=1)
        self._tokens[running] = tokens
        self.running[running] = ~ended
        return bool(ended.all())
