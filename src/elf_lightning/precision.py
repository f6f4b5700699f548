"""The precisions that networks and losses are made for; weights and losses are float32 in all of them."""

from __future__ import annotations

PRECISIONS = {"32-true": None, "bf16-mixed": "bfloat16", "16-mixed": "float16"}
"""The Trainer's names, and what torch calls the type that matrix products are then computed in."""
