from .generation import ELF as ELF

__version__: str
