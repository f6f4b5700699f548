"""A trained model: load, generate, save."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from huggingface_hub import ModelCard, ModelHubMixin
from torch import Tensor

from elf_lightning.checkpoints import ModelBundle, load_model, model_card, save_hub
from elf_lightning.checkpoints.hub import TOKENIZER_NAME
from elf_lightning.codec import TextCodec
from elf_lightning.compiling import require_compiler
from elf_lightning.errors import UserError, first_line
from elf_lightning.generation.generator import Sample, TextGenerator
from elf_lightning.generation.requests import Request, requests_from_user
from elf_lightning.network import ELFNetwork
from elf_lightning.precision import PRECISIONS
from elf_lightning.sampling import SamplingSettings, Step
from elf_lightning.sampling.settings import DEFAULT_TRAJECTORIES, MEASURING_SEED
from elf_lightning.whole_file import whole_folder

BFLOAT16 = (8, 0)
"""Minimum compute capability for bfloat16 arithmetic."""
Method = TypeVar("Method", bound=Callable[..., Any])


def shows_settings(method: Method) -> Method:
    """Name the sampling settings in the signature that editors and `help` show, instead of `**settings`."""
    own = signature(method)
    kept = [one for one in own.parameters.values() if one.kind is not Parameter.VAR_KEYWORD]
    settings = [
        Parameter(one.name, Parameter.KEYWORD_ONLY, default=..., annotation=one.type)
        for one in fields(SamplingSettings)
    ]
    method.__signature__ = own.replace(parameters=[*kept, *settings])  # type: ignore[attr-defined]
    return method


class ELF(ModelHubMixin, library_name="elf-lightning"):
    """A trained model with its tokenizer and, for prompts, its frozen encoder.

    `from_pretrained` reads Lightning checkpoints, official checkpoints and Hub folders;
    `save_pretrained` and `push_to_hub` write a Hub folder. A device, precision or compiler that is not
    available is a `UserError`.

    Args:
        bundle: configuration and weights.
        device: by default a GPU, if available.
        compile: compile sampling with `torch.compile`, which pays off over many batches, and needs a C++
            compiler on a CPU and Triton on a GPU.
        precision: one of `PRECISIONS`; by default `bf16-mixed` on GPUs with bfloat16 arithmetic, otherwise
            `32-true`.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Skip the mixin's record of arguments: `save_hub` writes the configuration."""
        return object.__new__(cls)

    def __init__(
        self,
        bundle: ModelBundle,
        device: torch.device | str | None = None,
        compile: bool = False,
        precision: str | None = None,
    ) -> None:
        self.bundle = bundle
        self.device = usable_device(device)
        self.precision = usable_precision(precision, self.device)
        if compile:
            require_compiler("compile=True (--compile)", self.device)
        self.generator = TextGenerator(
            network=bundle.network().to(self.device),
            config=bundle.config,
            precision=partial(autocast_context, self.precision, self.device),
            compile=compile,
            repetition_direction=bundle.repetition_direction,
        )

    def __repr__(self) -> str:
        size, config = self.bundle.num_parameters / 1e6, self.bundle.config
        return f"ELF({size:.1f}M parameters, {config.max_length} tokens, {self.device}, {self.precision})"

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        device: torch.device | str | None = None,
        compile: bool = False,
        precision: str | None = None,
        **options: Any,
    ) -> Self:
        """Load a checkpoint, a run's folder, a Hub folder or id, or a package; other arguments as in `ELF`.

        `options`, such as `averaged=False`, and errors are those of `checkpoints.load_model`.
        """
        return cls(load_model(pretrained_model_name_or_path, **options), device, compile, precision)

    def to(self, device: torch.device | str) -> Self:
        """This model, moved to a device, at the same precision; a `UserError` if it is not available."""
        self.device = usable_device(device)
        self.network.to(self.device)
        precision = partial(autocast_context, self.precision, self.device)
        self.generator = replace(self.generator, precision=precision)
        return self

    @property
    def network(self) -> ELFNetwork:
        """The denoiser and decoder."""
        return self.generator.network

    @property
    def codec(self) -> TextCodec:
        """Tokenizer, encoder, normalisation and special ids; errors as in `TextGenerator.codec`."""
        return self.generator.codec

    @property
    def settings(self) -> SamplingSettings:
        """The model's own sampling settings, or the published ones."""
        return self.bundle.config.default_sampling

    @property
    def repetition_direction(self) -> Tensor | None:
        """(C,) the direction used by `repetition_control`; None before `measure_repetition`."""
        return self.generator.repetition_direction

    def __call__(self, prompts: str | Sequence[str] | None = None, **options: Any) -> list[str]:
        """`generate` for prompts, such as `model("the old man", num=3)`; without any, texts from nothing."""
        return self.generate(prompts=prompts, **options)

    @shows_settings
    def generate(
        self,
        num: int = 1,
        *,
        seed: int = 0,
        prompts: str | Sequence[str] | None = None,
        infill: str | Sequence[str] | None = None,
        batch_size: int = 32,
        **settings: Any,
    ) -> list[str]:
        """Generate texts; the same seed gives the same texts for any batch size.

        Unusable settings, prompts or templates are a `UserError`.

        Args:
            num: number of texts, or of texts per prompt or template.
            seed: of all random draws.
            prompts: texts to answer (text-to-text models) or to continue (all others).
            infill: templates in which each `_` is a token to fill in.
            batch_size: texts sampled at once.
            settings: any of `SamplingSettings`, such as `steps=64`, to override the model's own.
        """
        samples = self.samples(num, seed, prompts, infill, batch_size, **settings)
        return [sample.text for sample in samples]

    @shows_settings
    def samples(
        self,
        num: int = 1,
        seed: int = 0,
        prompts: str | Sequence[str] | None = None,
        infill: str | Sequence[str] | None = None,
        batch_size: int = 32,
        trajectory_steps: Collection[int] = (),
        on_step: Callable[[Step], None] | None = None,
        **settings: Any,
    ) -> Iterator[Sample]:
        """Generate texts one by one, with tokens and trajectories.

        Arguments and errors as in `generate`; `trajectory_steps` and `on_step` as in
        `TextGenerator.generate`.
        """
        changed = self.changed_settings(**settings)
        requests = self.requests(num, prompts, infill)
        for batch in self.generator.generate(requests, seed, changed, batch_size, trajectory_steps, on_step):
            yield from batch

    def requests(
        self,
        num: int = 1,
        prompts: str | Sequence[str] | None = None,
        infill: str | Sequence[str] | None = None,
    ) -> list[Request]:
        """The requests that `samples` makes of these arguments; raises its errors."""
        return requests_from_user(self.codec, num, prompts, infill)

    def changed_settings(self, **settings: Any) -> SamplingSettings:
        """This model's settings, overridden by `settings`."""
        names = [field.name for field in fields(SamplingSettings)]
        if unknown := sorted(settings.keys() - set(names)):
            raise UserError(f"sampling has no setting {', '.join(unknown)}; choose from {', '.join(names)}")
        if settings.keys() & {"steps", "grid"}:
            settings = {"times": None, **settings}
        return replace(self.settings, **settings)

    @shows_settings
    def measure_repetition(
        self,
        num: int = DEFAULT_TRAJECTORIES,
        seed: int = MEASURING_SEED,
        prompts: str | Sequence[str] | None = None,
        batch_size: int = 32,
        on_step: Callable[[Step], None] | None = None,
        **settings: Any,
    ) -> Tensor:
        """Measure the direction (C,) for `repetition_control`; `save_pretrained` saves it with the model.

        It is measured on `num` texts; text-to-text models use the prompts in turn. All other arguments are
        as in `samples`. Too few texts, or texts that do not differ in repetition, are a `UserError`.
        """
        given = self.requests(1, prompts)
        requests = [replace(given[index % len(given)], index=index) for index in range(num)]
        changed = self.changed_settings(**settings)
        direction = self.generator.measure_repetition(requests, changed, seed, batch_size, on_step)
        self.generator = replace(self.generator, repetition_direction=direction)
        return direction

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write a Hub folder; `options` are those of `huggingface_hub.ModelHubMixin.save_pretrained`."""
        _ = self.codec  # fails before anything is written
        pushed, name = options.pop("push_to_hub", False), options.pop("repo_id", None)
        with whole_folder(save_directory) as unfinished:
            super().save_pretrained(unfinished, **options)
        return self.push_to_hub(name or Path(save_directory).name, **options) if pushed else None

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The card that `save_pretrained` writes."""
        return ModelCard(model_card(self.bundle))

    def _save_pretrained(self, save_directory: Path) -> None:
        write_folder(replace(self.bundle, repetition_direction=self.repetition_direction), save_directory)


def write_folder(bundle: ModelBundle, folder: str | Path) -> None:
    """Write a model with its tokenizer as a Hub folder."""
    if (codec := bundle.config.codec) is not None:
        codec.text_tokenizer.save_pretrained(Path(folder, TOKENIZER_NAME))
        config = replace(bundle.config, codec=replace(codec, tokenizer=TOKENIZER_NAME))
        bundle = replace(bundle, config=config)
    save_hub(bundle, Path(folder))


def usable_device(name: torch.device | str | None = None) -> torch.device:
    """The device called `name`; by default a GPU, if available."""
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        probe = torch.zeros((), device=name)
        probe.item()
    except (RuntimeError, AssertionError) as error:  # AssertionError if torch lacks the device
        raise UserError(
            f"device '{name}' cannot be used ({first_line(error)}); use cpu or an available device"
        ) from error
    return probe.device


def usable_precision(name: str | None, device: torch.device) -> str:
    """The precision called `name`; by default bf16-mixed on GPUs with bfloat16 arithmetic, else 32-true."""
    if name is None:
        fast = device.type == "cuda" and torch.cuda.get_device_capability(device) >= BFLOAT16
        return "bf16-mixed" if fast else "32-true"
    if name not in PRECISIONS:
        raise UserError(f"precision '{name}' is unknown; choose from {', '.join(PRECISIONS)}")
    return name


@contextmanager
def autocast_context(precision: str, device: torch.device) -> Iterator[None]:
    """The autocast context of one of `PRECISIONS`; on a GPU, float32 products in a mixed one are TF32."""
    dtype, before = PRECISIONS[precision], torch.get_float32_matmul_precision()
    if dtype and device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        with torch.autocast(device.type, getattr(torch, dtype) if dtype else None, enabled=dtype is not None):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
