"""A real training run of a few minutes on the packed corpus: texts, metrics, checkpoint.

    PYTHONPATH=src:.cache/gpu/site python -m benchmarks.gpu.run --inputs .cache/gpu --output run

`run.json` has losses and metrics that need no scoring model; `samples.jsonl` is for `elf eval-text`, which scores it
on a CPU; `model/` is a Hub folder with averaged weights in float16, for `elf sample --checkpoint model`.
Weights larger than a part are kept in several: `cat model.safetensors.* > model.safetensors`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from benchmarks.gpu import require
from benchmarks.gpu.budget import Budget, gpu_arguments
from benchmarks.gpu.corpus import Corpus, read_corpus
from benchmarks.gpu.steps import Average, Training
from benchmarks.rounds import report
from benchmarks.sizes import SIZES
from elf_lightning.batch import LatentPromptBatch
from elf_lightning.checkpoints import ModelBundle, save_hub
from elf_lightning.flow import seeded_generator
from elf_lightning.network import ELFNetwork, NetworkConfig
from elf_lightning.objectives import StepKey
from elf_lightning.optim import MuonSettings, Schedule
from elf_lightning.sampling import Sampler, SamplingSettings

OBJECTIVE = SIZES["quickstart"].objective
SETTINGS = {
    "sde 32": SamplingSettings(),
    "sde 64": SamplingSettings(steps=64, gamma=1.0),
    "sde 64, gamma 2": SamplingSettings(steps=64, gamma=2.0),
    "ode 64": SamplingSettings(steps=64, solver="ode"),
}
SAMPLING_SECONDS = 10.0
"""What the texts of one setting take, about."""
LOOKED_EVERY = 50
"""Steps between two looks at the clock, for which the host waits."""


def network_for(corpus: Corpus, options: argparse.Namespace) -> ELFNetwork:
    """The network asked for, with the sizes of the corpus."""
    hidden_size, depth, heads = options.network
    shape = NetworkConfig(hidden_size=hidden_size, depth=depth, num_heads=heads)
    if options.size is not None:
        shape = SIZES[options.size].shape
    _, length, channels = corpus.train.latents.shape
    generator = seeded_generator("initial values", 0)
    network = ELFNetwork(shape, channels, len(corpus.decoding["kept_ids"]), length, generator)
    return network.to(options.device)


def train(corpus: Corpus, network: ELFNetwork, options: argparse.Namespace, budget: Budget) -> dict[str, Any]:
    """Trains until the samples' time has come; the network has averaged weights then.

    Returns:
        Steps, seconds, and the mean training loss between two looks at the clock.
    """
    optimizer = MuonSettings(options.learning_rate * 256 / options.rows)
    schedule = Schedule(warmup_steps=options.warmup)
    training = Training(network, OBJECTIVE, optimizer, schedule, rows=options.rows, mixed=options.mixed)
    average, start = Average(network, options.decay), perf_counter()
    means: list[float] = []
    recent: list[Tensor] = []
    for batch in corpus.batches(options.rows, seed=0):
        recent.append(training(batch))
        average.update()
        if len(recent) == LOOKED_EVERY or training.steps == options.steps:
            means.append(torch.stack(recent).mean().item())
            recent = []
            if training.steps == options.steps or budget.seconds_left < options.reserve:
                break
    average.show()
    return {"steps": training.steps, "seconds": perf_counter() - start, "losses": means}


def validation(corpus: Corpus, network: ELFNetwork) -> dict[str, float]:
    """Losses and accuracies on validation rows."""
    batch, unknown = corpus.validation, corpus.decoding["unknown_id"]
    draws = OBJECTIVE.draw(batch.latents.shape, StepKey(0, "held out", 0), batch.latents.device)
    losses = OBJECTIVE.evaluate(network, batch, draws, unknown)
    with torch.no_grad():
        recovered = network.decode_tokens(batch.latents, draws.guidance)
    right = (recovered == batch.input_ids) & (batch.input_ids != unknown)
    named = {
        "denoise_loss": losses.denoise,
        "decode_loss": losses.decode,
        "decode_accuracy": losses.decode_accuracy,
    }
    return {name: value.item() for name, value in named.items()} | {
        "clean_decode_accuracy": right.float().mean().item()
    }


def sampled(corpus: Corpus, network: ELFNetwork, settings: SamplingSettings, num: int) -> list[str]:
    """So many texts, from the same noise at any settings."""
    shape = (num, *corpus.train.latents.shape[1:])
    latents = torch.zeros(shape, device=corpus.train.latents.device)
    nothing = torch.zeros(shape[:2], dtype=torch.bool, device=latents.device)
    prompt = LatentPromptBatch(torch.arange(num, device=latents.device), nothing.long(), nothing, latents)
    sampler = Sampler(
        network,
        OBJECTIVE.path,
        settings,
        OBJECTIVE.times,
        corpus.decoding["eos_id"],
        corpus.decoding["pad_id"],
    )
    return corpus.texts(sampler.sample(prompt, seed=0).tokens)


def save_model(corpus: Corpus, network: ELFNetwork, steps: int, folder: Path, part_mib: float) -> int:
    """The Hub folder with weights in float16, in parts of at most `part_mib`; returns their number."""
    bundle = ModelBundle(
        network.config, network.latent_size, network.vocab_size, network.max_length,
        weights={name: value.half().cpu() for name, value in network.state_dict().items()},
        decoding=corpus.decoding, sampling=asdict(SamplingSettings()),
        path=OBJECTIVE.path, times=OBJECTIVE.times, step=steps,
    )  # fmt: skip
    save_hub(bundle, folder)
    file = folder / "model.safetensors"
    content, part = file.read_bytes(), int(part_mib * 2**20)
    if len(content) <= part:
        return 1
    starts = range(0, len(content), part)
    for number, start in enumerate(starts):
        file.with_name(f"{file.name}.{number}").write_bytes(content[start : start + part])
    file.unlink()
    return len(starts)


def write_samples(texts: dict[str, list[str]], file: Path) -> None:
    """One text a line, told apart by setting, as `elf eval-text` reads them."""
    lines = (
        {"setting": setting, "seed": 0, "index": index, "text": text}
        for setting, written in texts.items()
        for index, text in enumerate(written)
    )
    file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def table_of(results: dict[str, Any]) -> Table:
    """Metrics that need no scoring model, of each setting and of validation text."""
    training = results["training"]
    done = f"{training['steps']} steps in {training['seconds']:.0f} s"
    table = Table("setting", title=f"{results['parameters']:,} parameters, {done}")
    names = next(iter(results["texts"].values())).keys()
    for name in names:
        table.add_column(name, justify="right")
    for setting, values in results["texts"].items():
        table.add_row(setting, *(f"{values[name]:.3f}" for name in names))
    return table


def parser() -> argparse.ArgumentParser:
    """What can be set."""
    parser = gpu_arguments(__doc__, size="elf-b", minutes=7.5)
    parser.set_defaults(size=None)
    parser.add_argument("--inputs", type=Path, default=Path(".cache/gpu"), help="what pack_inputs made")
    parser.add_argument("--output", type=Path, default=Path("run"), help="folder for the results")
    parser.add_argument(
        "--network",
        type=int,
        nargs=3,
        metavar=("H", "DEPTH", "HEADS"),
        default=(384, 8, 6),
        help="unless a --size is named",
    )
    parser.add_argument("--rows", type=int, default=256, help="of a step")
    parser.add_argument("--steps", type=int, help="to end after, if the time allows")
    parser.add_argument("--learning-rate", type=float, default=0.006)
    parser.add_argument("--warmup", type=int, default=200, help="steps")
    parser.add_argument("--decay", type=float, default=0.999, help="of the average")
    parser.add_argument("--num", type=int, default=256, help="texts of each setting")
    parser.add_argument("--reserve", type=float, default=75, help="seconds for samples, metrics and files")
    parser.add_argument("--part-mib", type=float, default=15, help="largest file of weights")
    parser.add_argument("--parts", type=int, default=3, help="most of them; larger weights are not kept")
    parser.add_argument("--compile", action="store_true", help="train through torch.compile")
    return parser


def main() -> None:
    """Train, evaluate, sample, save, report."""
    require({"torchmetrics": "torchmetrics"})
    from benchmarks.gpu.texts import TextMetrics

    options = parser().parse_args()
    budget, device = Budget(options.minutes), torch.device(options.device)
    options.mixed, options.json = device.type == "cuda", options.output / "run.json"
    options.output.mkdir(parents=True, exist_ok=True)
    torch.set_float32_matmul_precision("high")
    corpus = read_corpus(options.inputs, device)
    network = network_for(corpus, options)
    if options.compile:
        network.compile()
    parameters = sum(p.numel() for p in network.parameters())
    results: dict[str, Any] = {"parameters": parameters, "network": asdict(network.config)}
    results["training"] = train(corpus, network, options, budget)
    network.eval()
    results["validation"] = validation(corpus, network)
    texts = {"validation text": corpus.texts(corpus.validation.input_ids[: options.num])}
    for setting, settings in SETTINGS.items():
        if budget.allows(f"samples, {setting}", SAMPLING_SECONDS):
            texts[setting] = sampled(corpus, network, settings, options.num)
    write_samples(texts, options.output / "samples.jsonl")
    measure = TextMetrics(corpus.texts(corpus.train.input_ids))
    results["texts"] = {setting: measure(written) for setting, written in texts.items()}
    if 2 * parameters <= options.parts * options.part_mib * 2**20:
        save_model(corpus, network, results["training"]["steps"], options.output / "model", options.part_mib)
    else:
        budget.left_out.append(f"weights: {2 * parameters / 2**20:.0f} MiB, more than may be kept")
    held = ", ".join(f"{name} {value:.4f}" for name, value in results["validation"].items())
    results["left_out"] = budget.left_out
    report([table_of(results), f"held out: {held}", budget.told()], results, options)


if __name__ == "__main__":
    main()
