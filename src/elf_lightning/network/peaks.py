"""Peak rates of devices, the denominator of the model FLOPs utilisation."""

from __future__ import annotations

import re

import torch

BFLOAT16_PEAKS = {
    "GB200": 2.5e15,
    "B200": 2.25e15,
    "H200": 989.4e12,
    "GH200": 989.4e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835.5e12,
    "H100": 989.4e12,
    "H800": 989.4e12,
    "H20": 148e12,
    "A100": 312e12,
    "A800": 312e12,
    "A40": 149.7e12,
    "A30": 165e12,
    "A10G": 70e12,
    "A10": 125e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "RTX 6000 Ada": 364e12,
    "RTX A6000": 154.8e12,
    "RTX 5090": 209.5e12,
    "RTX 4090": 165.2e12,
    "RTX 3090": 71e12,
    "MI300X": 1307.4e12,
}
"""Dense bfloat16 FLOPs per second with float32 accumulation, by product.

From data sheets and architecture white papers; half of a figure that is given with sparsity. Power limits and
clocks may keep a machine below it.
"""
_OTHER_PRODUCTS = {"laptop", "mig", "ti", "super"}
"""Words that turn the name of one product into that of another."""


def bfloat16_peak(name: str) -> float | None:
    """Dense bfloat16 FLOPs per second of the device with this name; None if it is not in the table.

    Args:
        name: as `torch.cuda.get_device_name` returns it, such as "NVIDIA H100 80GB HBM3".
    """
    if _words(name) & _OTHER_PRODUCTS:
        return None
    matches = (product for product in BFLOAT16_PEAKS if _words(product) <= _words(name))
    product = max(matches, key=len, default=None)
    return None if product is None else BFLOAT16_PEAKS[product]


def device_peak(device: torch.device) -> float | None:
    """`bfloat16_peak` of a device; None for a CPU or an unknown accelerator."""
    return bfloat16_peak(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", name.lower()))
