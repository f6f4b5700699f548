from .base import TrainingModule as TrainingModule
from .distillation_module import DistillationModule as DistillationModule
from .elf_module import ELFModule as ELFModule
from .rollout_module import RolloutDistillationModule as RolloutDistillationModule
