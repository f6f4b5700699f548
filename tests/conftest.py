"""Fixtures shared by all tests: the golden values and a deterministic, offline world."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # read once, when Lightning imports `huggingface_hub`
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import lightning.pytorch  # noqa: F401  its log handler keeps the stderr of this moment, not that of one test
import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from elf_lightning.checkpoints.official import from_official
from elf_lightning.network import ELFNetwork, NetworkConfig
from elf_lightning.terminal import get_console


class Golden(dict[str, Tensor]):
    """The arrays of one golden file, with the settings it was recorded under."""

    def __init__(self, path: Path) -> None:
        with safe_open(path, "pt") as file:  # type: ignore[no-untyped-call]
            super().__init__({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            self.settings: dict[str, str] = file.metadata() or {}

    def group(self, prefix: str) -> dict[str, Tensor]:
        """The arrays named `prefix/…`, without the prefix."""
        start = f"{prefix}/"
        return {name.removeprefix(start): value for name, value in self.items() if name.startswith(start)}


class LargestTensor(TorchDispatchMode):
    """Notes the size of the largest result of any operator."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **kwargs or {})
        if isinstance(result, Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


@pytest.fixture
def largest_tensor() -> type[LargestTensor]:
    """A context that notes the size of the largest tensor made in it."""
    return LargestTensor


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`torch.compile` with a backend that runs the graphs as they are and counts them: its `frame_count`."""
    from torch._dynamo.testing import CompileCounterWithBackend

    torch.compiler.reset()
    counter = CompileCounterWithBackend("eager")
    monkeypatch.setenv("CXX", sys.executable)  # any program: nothing is built
    original = torch.compile

    @wraps(original)
    def compile(*args: Any, options: Any = None, **kwargs: Any) -> Any:  # options of torch's own backend
        return original(*args, backend=counter, **kwargs)

    monkeypatch.setattr(torch, "compile", compile)
    return counter


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-dir",
        type=Path,
        default=Path(__file__).parent / "golden",
        help="folder of golden values to replay, in the form of tests/golden",
    )


@pytest.fixture(autouse=True)
def fresh_console(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new console of rich, which keeps the width and colours of the test that first uses it."""
    monkeypatch.setattr("rich._console", None)
    get_console.cache_clear()
    # `datasets` puts a copy in its place when it starts processes.
    monkeypatch.setattr("rich.console.Console._environ", os.environ)


@pytest.fixture(scope="session")
def golden_dir(request: pytest.FixtureRequest) -> Path:
    return Path(request.config.getoption("--golden-dir"))


@pytest.fixture(scope="session")
def golden(golden_dir: Path) -> Callable[[str], Golden]:
    return lambda stem: Golden(golden_dir / f"{stem}.safetensors")


@pytest.fixture(scope="session")
def golden_config(golden_dir: Path) -> dict[str, Any]:
    """The recorded network's sizes."""
    return dict(json.loads((golden_dir / "config.json").read_text())["network"])


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _usual_arithmetic() -> Iterator[None]:
    """Benchmarks set how their process calculates; here, other tests follow them."""
    yield
    torch.set_flush_denormal(False)
    torch.set_float32_matmul_precision("highest")


@contextmanager
def _unchanged() -> Iterator[None]:
    """Restore what Trainers leave behind in their process, such as the environment of a distributed one."""
    environment, path, hook = dict(os.environ), [*sys.path], sys.excepthook
    handlers = {
        number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    }
    yield
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:], sys.excepthook = path, hook
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True, scope="module")
def _unchanged_by_a_module() -> Iterator[None]:
    with _unchanged():
        yield


@pytest.fixture(autouse=True)
def _unchanged_by_a_test() -> Iterator[None]:
    with _unchanged():
        yield


@pytest.fixture(scope="session")
def golden_network(golden: Callable[[str], Golden], golden_config: dict[str, Any]) -> ELFNetwork:
    """The recorded network with its recorded weights, in float32 on the CPU."""
    return network_from_golden(golden_config, golden("network").group("params"))


def network_from_golden(config: dict[str, Any], official_weights: dict[str, Tensor]) -> ELFNetwork:
    """A network of the recorded sizes with the given weights under their official names."""
    shape = NetworkConfig(
        hidden_size=config["hidden_size"],
        depth=config["depth"],
        num_heads=config["num_heads"],
        bottleneck_size=config["bottleneck_dim"],
        mlp_ratio=config["mlp_ratio"],
        num_time_tokens=config["num_time_tokens"],
        num_guidance_tokens=config["num_self_cond_cfg_tokens"],
        num_mode_tokens=config["num_model_mode_tokens"],
    )
    network = ELFNetwork(shape, config["text_encoder_dim"], config["vocab_size"], config["max_length"])
    network.load_state_dict(from_official(official_weights))
    return network


TINY_LINES = (
    "in the beginning god created heaven and earth now was without form darkness upon face of deep",
    "spirit moved waters said let there be light saw that it good he divided from called day night",
    "evening morning first second third firmament midst under above so gathered together one place",
)
TINY_WORDS = [word for line in TINY_LINES for word in line.split()]


def save_tokenizer(folder: Path, **special_tokens: str) -> int:
    """Save a tokenizer of whole words, the special tokens first; returns its size."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate([*special_tokens.values(), *TINY_WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=special_tokens.get("unk_token")))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special_tokens).save_pretrained(folder)
    return len(vocabulary)


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a T5 with random weights, 3 layers, C=16, and its tokenizer of words (EOS, no SEP)."""
    from transformers import T5Config, T5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("tiny_t5")
    size = save_tokenizer(folder, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    config = T5Config(
        vocab_size=size, d_model=16, d_kv=8, d_ff=32, num_layers=3, num_heads=2, decoder_start_token_id=0
    )
    torch.manual_seed(0)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a BERT with random weights, 3 layers, C=16, 32 positions, and its tokenizer (SEP, no EOS)."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny_bert")
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    config = BertConfig(
        vocab_size=save_tokenizer(folder, **special),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_scoring_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a causal language model with random weights, 64 positions, and its tokenizer of words."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("tiny_scoring_model")
    size = save_tokenizer(folder, unk_token="<unk>", eos_token="<eos>")
    config = GPT2Config(
        vocab_size=size, n_positions=64, n_embd=16, n_layer=1, n_head=2, initializer_range=0.3
    )
    torch.manual_seed(0)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_run(tiny_t5: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Makes the settings of a small run on `lines.txt` in the working folder, changed at dotted names."""

    def settings(changes: dict[str, Any]) -> dict[str, Any]:
        run: dict[str, Any] = {
            "data": {
                "source": {"class_path": "TextFiles", "init_args": {"path": "lines.txt", "document": "line"}},
                "encoder": {"class_path": "PretrainedEncoder", "init_args": {"name_or_path": tiny_t5}},
                "max_length": 8,
                "batch_size": 4,
                "cache_dir": "cache",
            },
            "model": {"network": {"hidden_size": 16, "depth": 2, "num_heads": 2, "bottleneck_size": 8}},
            "trainer": {"accelerator": "cpu", "log_every_n_steps": 1, "enable_progress_bar": False},
        }
        for name, value in changes.items():
            *groups, last = name.split(".")
            place = run
            for group in groups:
                place = place.setdefault(group, {})
            place[last] = value
        return run

    return settings


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium; without one, the test is skipped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent / "reporting")
        from browser import Browser, find_browser

        executable = find_browser()
        if executable is None:
            pytest.skip("no Chromium here: apt-get install chromium")
        with Browser(executable, tmp_path_factory.mktemp("profile")) as browser:
            yield browser
