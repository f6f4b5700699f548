"""Students of a frozen teacher: of several of its steps, or of whole rollouts."""

from dataclasses import replace
from pathlib import PurePath
from typing import Any

from elf_lightning.checkpoints import load_model
from elf_lightning.errors import errors_about
from elf_lightning.objectives import ProgressiveDistillation, RolloutDistillation
from elf_lightning.training.base import ELFModule
from elf_lightning.training.warm_start import InitialWeights

STUDENTS_OWN = ("tokenizer", "kept_ids", "unknown_id", "eos_id", "pad_id")
"""What a codec says of token ids: a teacher estimates latents alone."""


class DistillationModule(ELFModule):
    """One round of progressive distillation (arXiv 2605.10938, appendix B); `elf distill` runs several.

    The student has the teacher's sizes but for the vocabulary, which is that of its data, and starts from the
    teacher's weights or from `init_from`. The teacher is no submodule, and therefore in no state dict,
    average or exchange of gradients.

    Args:
        teacher: a checkpoint in any format; its averaged weights are used.
        step_size: span of a student's step; 1/N for a student of N steps.
        teacher_steps: the teacher's steps in that span.
        settings: the arguments of `TrainingModule`.
    """

    objective: ProgressiveDistillation

    def __init__(
        self, *args: Any, teacher: str, step_size: float = 1 / 16, teacher_steps: int = 4, **settings: Any
    ) -> None:
        super().__init__(*args, **settings)
        self.teacher = teacher
        with errors_about(f"model.teacher {teacher}"):
            bundle = load_model(teacher)
            config = bundle.config
            if config.codec is not None:  # the student has the tokens of its data, and a teacher needs none
                config = replace(config, vocab_size=self.network.vocab_size, codec=None)
            config.check_network(self.network)
        network = bundle.network().requires_grad_(False)
        self.objective = ProgressiveDistillation(
            **vars(self.objective), teacher=network, step_size=step_size, teacher_steps=teacher_steps
        )
        self.networks = [self.network, network]
        self.loaded, self.initial_codec = bundle.config, bundle.config.codec
        if settings.get("init_from") is None:
            self._initial = InitialWeights(self.network, teacher, setting="model.teacher")

    def setup(self, stage: str) -> None:
        """Check that the data's latents have the teacher's meaning, and move it to the device."""
        super().setup(stage)
        self.objective.teacher.to(self.trainer.strategy.root_device)
        if self.text_data is None or self.initial_codec is None:
            return
        theirs, ours = self.initial_codec, self.text_data.codec
        with errors_about(f"model.teacher {self.teacher}"):
            same_name = PurePath(theirs.tokenizer).name == PurePath(ours.tokenizer).name
            # Under another name, it may be the copy in a Hub folder.
            if same_name or theirs.text_tokenizer.get_vocab() == ours.text_tokenizer.get_vocab():
                theirs = replace(theirs, **{name: getattr(ours, name) for name in STUDENTS_OWN})
            theirs.check_compatible(ours)


class RolloutDistillationModule(DistillationModule):
    """Rollout distillation (arXiv 2610.06648), an alternative to `DistillationModule`, with `elf fit`.

    Whatever `sampling` says, the student's solver is `feedback`, in `student_steps` steps.

    Args:
        teacher: a checkpoint in any format; its averaged weights are used.
        teacher_steps: the teacher's steps from noise to data.
        student_steps: the student's steps.
        settings: the arguments of `TrainingModule`.
    """

    objective: RolloutDistillation

    def __init__(
        self, *args: Any, teacher: str, teacher_steps: int = 32, student_steps: int = 4, **settings: Any
    ) -> None:
        super().__init__(*args, teacher=teacher, step_size=1.0, teacher_steps=teacher_steps, **settings)
        self.objective = RolloutDistillation(**vars(self.objective), student_steps=student_steps)
        self.sampling = replace(
            self.sampling, solver="feedback", solver_options={}, steps=student_steps, times=None
        )
