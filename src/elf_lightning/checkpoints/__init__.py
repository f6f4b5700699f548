"""Reading and writing models: Lightning checkpoints, the official format and the Hub format."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
