"""Text <-> token ids <-> latents: what a model's weights do not say about its texts."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
