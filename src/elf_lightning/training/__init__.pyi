from .base import TrainingModule as TrainingModule
from .elf_module import ELFModule as ELFModule
