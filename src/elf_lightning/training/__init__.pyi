from .base import ELFModule as ELFModule
from .base import TrainingModule as TrainingModule
from .distillation_module import DistillationModule as DistillationModule
from .distillation_module import RolloutDistillationModule as RolloutDistillationModule
