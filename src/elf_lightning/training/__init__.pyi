from .elf_module import ELFModule as ELFModule
