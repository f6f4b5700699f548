"""Identifies a model, so that it does not take over the results of another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def model_identity(weights: Mapping[str, Tensor], description: Mapping[str, Any]) -> str:
    """A short hash of all weights and the description.

    Args:
        weights: a state dict.
        description: plain values.
    """
    digest = hashlib.blake2b(json.dumps(description, sort_keys=True).encode(), digest_size=8)
    for name, weight in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
