"""Weights in and out: the official format, the Hub format, Lightning checkpoints."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
