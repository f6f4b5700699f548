"""The promises to a user of several GPUs: the package's own commands under torchrun, on a small model.

    PYTHONPATH=src:.cache/gpu/site python -m benchmarks.gpu.ranks --ranks 2 --json ranks.json

- A killed rank ends the job within a time limit, with a message that says so.
- The run then resumes with the sequences, the order and the weights of a run that was never stopped, and on
  a single rank, too.
- `test` on all ranks gives the texts and metrics of a single one.

Encoder, scoring model and text are made up. Needs what the commands need (README.md). Ends with status 1
where a promise is not kept.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.table import Table

from benchmarks.gpu import COMMANDS_NEED, require
from benchmarks.gpu.scaling import ENVIRONMENT, torchrun
from benchmarks.measure import Budget, run

WORDS = [f"{start}{end}" for start in "bdgklmnprst" for end in ("a", "el", "o", "ur")]
STEPS, KILLED_AT, SAVED_EVERY = 6, 5, 2
LIMIT_SECONDS = 300.0
"""For any one command."""
KILLED = re.compile(r"(?i)sig(nal )?(kill|9)|code -9|exitcode\s*: -9")


@dataclass(frozen=True)
class World:
    """A folder with a made-up encoder, scoring model and text; `accelerator` is `gpu` or `cpu`.

    Every run has the global batch of `ranks` ranks, however many it has itself.
    """

    folder: Path
    accelerator: str
    ranks: int

    def __post_init__(self) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5EncoderModel

        torch.manual_seed(0)
        encoder, scoring_model = self.folder / "encoder", self.folder / "scoring_model"
        size = {"vocab_size": save_words(encoder)}
        t5 = T5Config(**size, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
        T5EncoderModel(t5).save_pretrained(encoder)
        save_words(scoring_model)
        gpt2 = GPT2Config(**size, n_positions=64, n_embd=16, n_layer=1, n_head=2)
        GPT2LMHeadModel(gpt2).save_pretrained(scoring_model)
        drawn = random.Random(0)
        # Long lines: a model of few steps predicts the most frequent token, which must not end the text.
        lines = ["".join(f"{word} " for word in drawn.choices(WORDS, k=80)) for _ in range(10)]
        (self.folder / "lines.txt").write_text("\n".join(lines))

    def config(self, name: str, ranks: int, kill_at: int | None = None) -> dict[str, Any]:
        """The configuration of a run."""
        folder = str(self.folder)
        source = {"path": f"{folder}/lines.txt", "document": "line", "validation_fraction": 0.2}
        samples = {"every_n_steps": SAVED_EVERY}
        record = {"path": f"{folder}/{name}", "kill_at": kill_at}
        encoder = {"name_or_path": f"{folder}/encoder"}
        trainer = {
            "default_root_dir": f"{folder}/{name}", "accelerator": self.accelerator, "devices": ranks,
            "strategy": "ddp" if ranks > 1 else "auto", "max_steps": STEPS, "check_val_every_n_epoch": None,
            "val_check_interval": SAVED_EVERY, "enable_progress_bar": False, "logger": False,
            "callbacks": [
                {"class_path": "elf_lightning.callbacks.EMA"},
                {"class_path": "elf_lightning.callbacks.SampleLogger", "init_args": samples},
                {"class_path": "benchmarks.gpu.rank_hooks.SequenceRecord", "init_args": record},
            ],
        }  # fmt: skip
        data = {
            "source": {"class_path": "TextFiles", "init_args": source},
            "encoder": {"class_path": "PretrainedEncoder", "init_args": encoder},
            "max_length": 8, "batch_size": 4, "global_batch_size": 4 * self.ranks,
            "cache_dir": f"{folder}/cache",
        }  # fmt: skip
        scoring_model = {"name": f"{folder}/scoring_model", "context_length": 32}
        model = {
            "network": {"hidden_size": 16, "depth": 2, "num_heads": 2, "bottleneck_size": 8},
            "optimizer": {"class_path": "MuonSettings", "init_args": {"base_learning_rate": 0.5}},
            "sampling": {"steps": 4},
            "evaluation": {"num_samples": 17, "seeds": [0], "scoring_model": scoring_model},
        }
        return {"trainer": trainer, "data": data, "model": model}

    def command(
        self, command: str, name: str, ranks: int, checkpoint: Path | None = None, kill_at: int | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the package on a run's configuration; its output is in `stdout`."""
        file = self.folder / "config.json"
        file.write_text(json.dumps(self.config(name, ranks, kill_at)))
        words = ["--config", str(file), *([] if checkpoint is None else ["--ckpt_path", str(checkpoint)])]
        return subprocess.run(
            torchrun(ranks, "elf_lightning", command, *words),
            env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=LIMIT_SECONDS, check=False,
        )  # fmt: skip

    def done(self, command: str, name: str, ranks: int, checkpoint: Path | None = None) -> None:
        """Run a command that must succeed.

        Raises:
            SystemExit: with the end of its output, if it fails.
        """
        ended = self.command(command, name, ranks, checkpoint)
        if ended.returncode:
            raise SystemExit(f"{command} ended with {ended.returncode}:\n{ended.stdout[-10_000:]}")

    def checkpoint(self, name: str) -> Path:
        """The newest checkpoint of a run."""
        return self.folder / name / "checkpoints" / "last.ckpt"

    def lines(self, file: str) -> list[dict[str, Any]]:
        """The lines of a file of results."""
        return [json.loads(line) for line in (self.folder / file).read_text().splitlines()]

    def sequences(self, name: str) -> dict[tuple[int, int], str]:
        """Digest of the sequences of each (rank, step); of a repeated step, the last."""
        lines = [(rank, line) for rank in range(self.ranks) for line in self.lines(f"{name}-{rank}.jsonl")]
        return {(rank, line["step"]): line["sequences"] for rank, line in lines}


def save_words(folder: Path) -> int:
    """A tokenizer of whole words; returns its size."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = {token: number for number, token in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    words = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return len(known)


def killed(world: World) -> dict[str, Any]:
    """How a run ends whose last rank is killed."""
    ended = world.command("fit", "killed", world.ranks, kill_at=KILLED_AT)
    record = world.folder / f"killed-{world.ranks - 1}.jsonl"
    if not record.is_file():
        raise SystemExit(
            f"fit ended with {ended.returncode} before the first step:\n{ended.stdout[-10_000:]}"
        )
    messages = [line.strip() for line in ended.stdout.splitlines() if KILLED.search(line)]
    return {
        "status": ended.returncode,
        "seconds_until_the_end": time.time() - record.stat().st_mtime,
        "message": messages[0] if messages else ended.stdout[-500:],
        "kept": ended.returncode != 0 and bool(messages),
    }


def resumed(world: World) -> dict[str, Any]:
    """The killed run after resuming, beside one that was never stopped."""
    world.done("fit", "whole", world.ranks)
    stopped = world.folder / "stopped.ckpt"
    shutil.copy(world.checkpoint("killed"), stopped)
    world.done("fit", "killed", world.ranks, stopped)
    world.done("fit", "alone", 1, stopped)
    whole, again, alone = (
        torch.load(world.checkpoint(name), weights_only=True, map_location="cpu")
        for name in ("whole", "killed", "alone")
    )
    differences = [
        (again[name][key] - value).abs().max().item()
        for name in ("state_dict", "current_model_state")
        for key, value in whole[name].items()
        if value.is_floating_point()
    ]
    same_sequences = world.sequences("whole") == world.sequences("killed")
    return {
        "same_sequences_in_order": same_sequences,
        "largest_difference_of_weights": max(differences),
        "steps_on_one_rank": alone["global_step"],
        "kept": same_sequences
        and whole["global_step"] == again["global_step"] == alone["global_step"] == STEPS,
    }


def evaluated(world: World) -> dict[str, Any]:
    """`test` on one rank and on all ranks."""
    for name, number in (("one", 1), ("all", world.ranks)):
        world.done("test", name, number, world.checkpoint("whole"))
    one, every = (world.lines(f"{name}/metrics.jsonl")[0]["metrics"] for name in ("one", "all"))
    texts = [[line["text"] for line in world.lines(f"{name}/samples.jsonl")] for name in ("one", "all")]
    apart = {name: abs(every[name]["mean"] - value["mean"]) for name, value in one.items()}
    same = all(apart[name] <= 1e-5 * (1 + abs(value["mean"])) for name, value in one.items())
    return {"same_texts": texts[0] == texts[1], "differences": apart, "kept": same and texts[0] == texts[1]}


def measure(options: argparse.Namespace, _: Budget) -> tuple[list[Table], dict[str, Any]]:
    """All promises."""
    table, results = Table("promise", "kept", title=f"{options.ranks} ranks"), dict[str, Any]()
    with TemporaryDirectory() as folder:
        world = World(Path(folder), "cpu" if options.device == "cpu" else "gpu", options.ranks)
        for promise in (killed, resumed, evaluated):
            results[promise.__name__] = found = promise(world)
            print(f"{promise.__name__}: {json.dumps(found)}", flush=True)
            table.add_row(promise.__name__, str(found["kept"]))
    return [table], {**results, "passed": all(found["kept"] for found in results.values())}


def main() -> None:
    """Measure, print and write."""
    require(COMMANDS_NEED)
    run(measure, __doc__, "tiny", "cuda", ranks=2)


if __name__ == "__main__":
    main()
