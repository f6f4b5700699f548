"""What `lightning test` does: texts for every way of sampling, scored beside real text."""

from elf_lightning.modules.evaluation.held_out import HeldOutTexts, shuffled
from elf_lightning.modules.evaluation.model import ModelEvaluation
from elf_lightning.modules.evaluation.settings import EvaluationSettings

__all__ = ["EvaluationSettings", "HeldOutTexts", "ModelEvaluation", "shuffled"]
