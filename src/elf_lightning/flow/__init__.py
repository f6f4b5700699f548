"""Latents <-> noise: the path between them, the times along it, and where random numbers come from."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
