"""Sizes of a network, and the three published ones."""

from dataclasses import dataclass

from elf_lightning.errors import UserError


@dataclass(frozen=True)
class NetworkConfig:
    """Everything about the network that does not follow from data and encoder; sizes are positive.

    Attributes:
        hidden_size: H, width of the transformer; a multiple of `2 * num_heads`.
        depth: number of blocks.
        num_heads: attention heads.
        bottleneck_size: width between the latents and the transformer.
        mlp_ratio: feed-forward width is `int(mlp_ratio * H * 2/3)`.
        num_time_tokens: prefix tokens that carry the time.
        num_guidance_tokens: prefix tokens that carry the guidance scale; 0 for a network without guidance
            input.
        num_mode_tokens: prefix tokens that distinguish decoding from denoising.
        self_conditioning: whether an earlier `x_hat` is a second input.
        dropout: in the middle half of the blocks, on attention output and feed-forward units; in [0, 1).
        gradient_checkpointing: recompute each block in the backward pass instead of keeping its activations.
    """

    hidden_size: int = 768
    depth: int = 12
    num_heads: int = 12
    bottleneck_size: int = 128
    mlp_ratio: float = 4.0
    num_time_tokens: int = 4
    num_guidance_tokens: int = 4
    num_mode_tokens: int = 4
    self_conditioning: bool = True
    dropout: float = 0.0
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        for name in ("hidden_size", "depth", "num_heads", "bottleneck_size", "num_time_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"network.{name} is {getattr(self, name)}; it must be at least 1")
        if self.hidden_size % (2 * self.num_heads):
            raise UserError(
                f"network.hidden_size {self.hidden_size} does not give {self.num_heads} heads of even size; "
                "choose a multiple of 2 * num_heads"
            )
        if not 0 <= self.dropout < 1:
            raise UserError(f"network.dropout is {self.dropout}; it must be in [0, 1)")


PRESETS = {
    "elf-b": NetworkConfig(hidden_size=768, depth=12, num_heads=12),
    "elf-m": NetworkConfig(hidden_size=1056, depth=24, num_heads=16),
    "elf-l": NetworkConfig(hidden_size=1280, depth=32, num_heads=16),
}
"""Published sizes (arXiv 2605.10938): 105M, 342M and 652M parameters with T5-small latents."""
