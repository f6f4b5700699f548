"""What a checkpoint says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from elf_lightning.codec import TextCodec
from elf_lightning.errors import UserError
from elf_lightning.flow import LogitNormal, RectifiedPath
from elf_lightning.network import ELFNetwork, NetworkConfig
from elf_lightning.sampling import SamplingSettings, known_solver

TRAINING_ONLY = ("dropout", "gradient_checkpointing")
"""Network settings that shape no weights, and may change from run to run."""


@dataclass(frozen=True)
class ELFConfig:
    """Everything about a model but its weights; written into every checkpoint as plain values.

    Attributes:
        network: width, depth and the like.
        latent_size: C.
        vocab_size: V.
        max_length: longest sequence, S.
        path: the path the model was trained on.
        times: the training distribution of times.
        sampling: default sampling settings; None for the published ones.
        codec: tokenizer, encoder, normalisation and special ids; None where the file does not say.
        step: optimizer steps behind the weights.

    Raises:
        UserError: if the codec does not fit the sizes.
    """

    network: NetworkConfig
    latent_size: int
    vocab_size: int
    max_length: int
    path: RectifiedPath = RectifiedPath()
    times: LogitNormal = LogitNormal()
    sampling: SamplingSettings | None = None
    codec: TextCodec | None = None
    step: int = 0

    def __post_init__(self) -> None:
        if self.codec is not None:
            self.codec.check_sizes(self.latent_size, self.vocab_size)

    @property
    def default_sampling(self) -> SamplingSettings:
        """The model's own sampling settings, or the published ones of its task."""
        if self.sampling is not None:
            return self.sampling
        conditional = self.codec is not None and self.codec.max_condition_length is not None
        return SamplingSettings.text_to_text() if conditional else SamplingSettings()

    def build_network(self) -> ELFNetwork:
        """A network of these sizes, with initial values."""
        return ELFNetwork(self.network, self.latent_size, self.vocab_size, self.max_length)

    def to_dict(self) -> dict[str, Any]:
        """Plain types; `from_dict` reads them."""
        sizes = {
            "latent_size": self.latent_size,
            "vocab_size": self.vocab_size,
            "max_length": self.max_length,
        }
        return {
            "network": asdict(self.network) | sizes,
            "path": asdict(self.path),
            "times": asdict(self.times),
            "sampling": {} if self.sampling is None else asdict(self.sampling),
            "codec": {} if self.codec is None else self.codec.to_dict(),
            "step": self.step,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The configuration that wrote `values`.

        Raises:
            UserError: if an entry is missing, unknown or impossible.
        """
        try:
            network = dict(values["network"])
            sizes = {name: network.pop(name) for name in ("latent_size", "vocab_size", "max_length")}
            # "decoding" is what the first version called it.
            codec = values["decoding" if "decoding" in values else "codec"]
            _check_solver(values["sampling"])
            return cls(
                network=NetworkConfig(**network),
                **sizes,
                path=RectifiedPath(**values["path"]),
                times=LogitNormal(**values["times"]),
                sampling=SamplingSettings(**values["sampling"]) if values["sampling"] else None,
                codec=TextCodec.from_dict(codec) if codec else None,
                step=values["step"],
            )
        except KeyError as error:
            raise UserError(f"the model's description has no entry {error}; is the file complete?") from error
        except (TypeError, ValueError) as error:
            raise UserError(
                f"the model's description does not fit this version of elf_lightning ({error}); "
                "use the version that wrote it"
            ) from error

    def check_network(self, network: ELFNetwork) -> None:
        """Refuse a network whose sizes differ from those that this checkpoint was trained with.

        Raises:
            UserError: in one line, if they differ.
        """
        stored = asdict(self.network) | {"latent_size": self.latent_size, "vocab_size": self.vocab_size}
        here = asdict(network.config) | {
            "latent_size": network.latent_size,
            "vocab_size": network.vocab_size,
        }
        names = sorted(name for name in stored.keys() - {*TRAINING_ONLY} if stored[name] != here[name])
        if names:
            listed = ", ".join(f"{name} {stored[name]} (here {here[name]})" for name in names)
            raise UserError(
                f"the checkpoint holds another network: {listed}; use the configuration it was trained with"
            )


def _check_solver(sampling: Mapping[str, Any]) -> None:
    """A checkpoint never makes Python import anything."""
    solver = sampling.get("solver", "sde")
    if not known_solver(solver):
        raise UserError(
            f"the model samples with the solver {solver!r}, which is not defined here; import the module "
            "that defines it first"
        )
