"""Supported precisions; weights and losses are float32 in all of them."""

PRECISIONS = {"32-true": None, "bf16-mixed": "bfloat16", "16-mixed": "float16"}
"""The Trainer's names, with torch's name of the dtype of matrix products; None for float32."""
