"""Training objectives: the random draws of a step, and the losses as a pure function of them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
