"""Generated texts for each sampling configuration, scored beside real text: `elf test` and `elf eval`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
