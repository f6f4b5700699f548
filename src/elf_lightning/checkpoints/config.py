"""A model, as read from a checkpoint: its description and its weights."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor

from elf_lightning.codec import TextCodec
from elf_lightning.errors import UserError, check_types, first_line
from elf_lightning.flow import LogitNormal, RectifiedPath
from elf_lightning.network import ELFNetwork, NetworkConfig
from elf_lightning.sampling import SamplingSettings, Solver

StorageDtype = Literal["float32", "bfloat16", "int8"]
SIZES = ("latent_size", "vocab_size", "max_length")
TRAINING_ONLY = ("dropout", "gradient_checkpointing")
"""Network settings that do not affect the weights' shapes, and may change between runs."""
_OTHER = "use another file, or a complete copy of it"


@dataclass(frozen=True)
class ELFConfig:
    """Everything about a model except its weights; stored in each checkpoint as plain values.

    Attributes:
        network: width, depth and other sizes.
        latent_size: C.
        vocab_size: V.
        max_length: maximum sequence length in tokens, S.
        path: from noise to data, as in training.
        times: the distribution of times in training.
        sampling: the model's sampling settings; None for the published ones.
        codec: tokenizer, encoder, normalisation and special ids; None if unknown.
        step: number of optimizer steps.
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
        check_types(self)
        if self.codec is not None:
            self.codec.check_sizes(self.latent_size, self.vocab_size)

    @property
    def default_sampling(self) -> SamplingSettings:
        """The model's own sampling settings, or those published for its task."""
        if self.sampling is not None:
            return self.sampling
        conditional = self.codec is not None and self.codec.max_condition_length is not None
        return SamplingSettings.text_to_text() if conditional else SamplingSettings()

    def build_network(self) -> ELFNetwork:
        """A network of these sizes, with initial values."""
        return ELFNetwork(self.network, self.latent_size, self.vocab_size, self.max_length)

    def to_dict(self) -> dict[str, Any]:
        """The configuration in plain types, for `from_dict`."""
        return {
            "network": asdict(self.network) | {name: getattr(self, name) for name in SIZES},
            "path": asdict(self.path),
            "times": asdict(self.times),
            "sampling": {} if self.sampling is None else asdict(self.sampling),
            "codec": {} if self.codec is None else self.codec.to_dict(),
            "step": self.step,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The configuration in `values`; a `UserError` if an entry is missing, unknown or impossible."""
        try:
            network, sampling = dict(values["network"]), values["sampling"]
            sizes = {name: network.pop(name) for name in SIZES}
            # Version 1 called it "decoding".
            codec = values["decoding" if "decoding" in values else "codec"]
            if (solver := sampling.get("solver", "sde")) not in Solver.registry:
                # A checkpoint must not import code.
                raise UserError(
                    f"the model samples with the solver {solver!r}, which is not imported; import the module "
                    f"that defines it first, or use `elf sample --solver {solver}`"
                )
            return cls(
                network=NetworkConfig(**network),
                **sizes,
                path=RectifiedPath(**values["path"]),
                times=LogitNormal(**values["times"]),
                sampling=SamplingSettings(**sampling) if sampling else None,
                codec=TextCodec.from_dict(codec) if codec else None,
                step=values["step"],
            )
        except KeyError as error:
            raise UserError(
                f"the model's description has no entry {error}; use a complete copy of the file"
            ) from error
        except UserError:
            raise
        except Exception as error:  # values of any type
            raise UserError(
                f"the model's description does not fit this version of elf_lightning ({error}); "
                "use the version that wrote it"
            ) from error

    def check_network(self, network: ELFNetwork) -> None:
        """Refuse a network whose sizes differ from this checkpoint's."""
        stored = asdict(self.network) | {"latent_size": self.latent_size, "vocab_size": self.vocab_size}
        here = asdict(network.config) | {name: getattr(network, name) for name in SIZES}
        names = sorted(name for name in stored.keys() - set(TRAINING_ONLY) if stored[name] != here[name])
        if names:
            listed = ", ".join(f"{name} {stored[name]} (here {here[name]})" for name in names)
            raise UserError(f"the checkpoint contains another network: {listed}; use its own configuration")


@dataclass(frozen=True)
class ModelBundle:
    """Everything needed to sample from a trained model; weights that do not fit are a `UserError`.

    Attributes:
        config: the model's description.
        weights: the network's state dict.
        repetition_direction: (C,) for repetition control, if measured.
        dtype: of the weights in a Hub folder; None keeps theirs, `int8` is for matrices only.
    """

    config: ELFConfig
    weights: Mapping[str, Tensor]
    repetition_direction: Tensor | None = None
    dtype: StorageDtype | None = None

    def __post_init__(self) -> None:
        # Before anything is built: a description may declare any number.
        blocks = {name.split(".")[1] for name in self.weights if name.startswith("blocks.")}
        if (depth := self.config.network.depth) != len(blocks):
            raise UserError(
                f"the weights do not fit the network: {len(blocks)} blocks instead of {depth}; {_OTHER}"
            )
        try:
            with torch.device("meta"):
                expected = self.config.build_network().state_dict()
        except (RuntimeError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f"the network is impossible ({first_line(error)}); {_OTHER}") from error
        weights = dict(self.weights)
        if self.repetition_direction is not None:
            weights["repetition_direction"] = self.repetition_direction
            expected["repetition_direction"] = torch.empty(self.config.latent_size)
        check_weights(weights, expected)
        check_numbers(weights)

    @property
    def num_parameters(self) -> int:
        """Number of parameters."""
        return sum(value.numel() for value in self.weights.values())

    def network(self) -> ELFNetwork:
        """A network with these weights, in evaluation mode."""
        network = self.config.build_network()
        network.load_state_dict(self.weights)
        return network.eval()


def check_numbers(weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not floating-point numbers, or not finite."""
    for name, value in weights.items():
        if not value.is_floating_point():
            raise UserError(f"weights '{name}' are not floating-point numbers ({value.dtype}); {_OTHER}")
        if not value.isfinite().all():
            raise UserError(f"weights '{name}' are not all finite; {_OTHER}")


def check_weights(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Compare names and shapes of weights with the expected ones."""
    here, there = ({name: tuple(one.shape) for name, one in both.items()} for both in (weights, expected))
    other = (name for name in here.keys() & there.keys() if here[name] != there[name])
    problems = {
        "missing": there.keys() - here.keys(),
        "extra": here.keys() - there.keys(),
        "of another shape": {f"{name} {here[name]} instead of {there[name]}" for name in other},
    }
    listed = [
        f"{len(names)} {what}: {', '.join([*sorted(names)[:5], *['…'] * (len(names) > 5)])}"
        for what, names in problems.items()
        if names
    ]
    if listed:
        raise UserError(f"the weights do not fit the network: {'; '.join(listed)}; use its own configuration")
