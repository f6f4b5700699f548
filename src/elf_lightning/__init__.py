"""Embedded Language Flows (arXiv 2605.10938) on PyTorch Lightning."""

__version__ = "0.1.0"
