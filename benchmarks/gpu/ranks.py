"""What several processes of the product owe their user: its own commands, under torchrun, on a small model.

    PYTHONPATH=src:.cache/gpu/site python -m benchmarks.gpu.ranks --ranks 2 --json ranks.json

- `test` on all ranks gives the texts and metrics of a single one.
- A rank that is killed in mid-run ends the job within a limit, with a message that says so.
- The run then resumes with the rows, in the order, and to the weights of a run that was never stopped.

Model, scoring model and text are made up on the spot. Needs Lightning, jsonargparse, docstring-parser and datasets;
README.md beside this file says how to carry them along. Ends with status 1 where a promise is not kept.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.table import Table

from benchmarks.gpu import require
from benchmarks.gpu.scaling import ENVIRONMENT, torchrun
from benchmarks.rounds import report

NEEDED = {
    "lightning": "lightning",
    "jsonargparse": "jsonargparse",
    "docstring_parser": "docstring-parser",
    "datasets": "datasets",
    "torchmetrics": "torchmetrics",
}
WORDS = [f"{start}{end}" for start in "bdgklmnprst" for end in ("a", "el", "o", "ur")]
STEPS, KILLED_AT, SAVED_EVERY = 6, 5, 2
LIMIT_SECONDS = 300.0
"""For any one command."""
KILLED = re.compile(r"(?i)sig(nal )?(kill|9)|code -9|exitcode\s*: -9")


@dataclass(frozen=True)
class World:
    """A folder with an encoder, a scoring model and a text, all made up.

    Attributes:
        folder: theirs, and that of the runs.
        accelerator: `gpu` or `cpu`, as the Trainer calls it.
    """

    folder: Path
    accelerator: str

    @classmethod
    def made(cls, folder: Path, accelerator: str) -> World:
        """Write it."""
        from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5EncoderModel

        torch.manual_seed(0)
        size = save_words(folder / "encoder")
        encoder = T5Config(vocab_size=size, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
        T5EncoderModel(encoder).save_pretrained(folder / "encoder")
        size = save_words(folder / "scoring_model")
        scoring_model = GPT2Config(vocab_size=size, n_positions=64, n_embd=16, n_layer=1, n_head=2)
        GPT2LMHeadModel(scoring_model).save_pretrained(folder / "scoring_model")
        drawn = random.Random(0)
        lines = ["".join(f"{word} " for word in drawn.choices(WORDS, k=7)) for _ in range(80)]
        (folder / "lines.txt").write_text("\n".join(lines))
        return cls(folder, accelerator)

    def settings(self, name: str, ranks: int, **more: Any) -> dict[str, Any]:
        """Of a run, by dotted name."""
        source = {"path": str(self.folder / "lines.txt"), "document": "line", "validation_fraction": 0.2}
        hooks = {"path": str(self.folder / name), "kill_at": more.pop("kill_at", None)}
        return {
            "trainer.default_root_dir": str(self.folder / name),
            "trainer.accelerator": self.accelerator,
            "trainer.devices": ranks,
            "trainer.strategy": "ddp" if ranks > 1 else "auto",
            "trainer.max_steps": STEPS,
            "trainer.check_val_every_n_epoch": None,
            "trainer.val_check_interval": SAVED_EVERY,
            "trainer.enable_progress_bar": False,
            "trainer.logger": False,
            "trainer.callbacks": [
                {"class_path": "elf_lightning.callbacks.EMA"},
                {"class_path": "benchmarks.gpu.rank_hooks.RowRecord", "init_args": hooks},
            ],
            "data.source": {"class_path": "TextFiles", "init_args": source},
            "data.encoder": {
                "class_path": "PretrainedEncoder",
                "init_args": {"name_or_path": str(self.folder / "encoder")},
            },
            "data.max_length": 8,
            "data.batch_size": 4,
            "data.global_batch_size": 4 * ranks,
            "data.cache_dir": str(self.folder / "cache"),
            "model.network": {"hidden_size": 16, "depth": 2, "num_heads": 2, "bottleneck_size": 8},
            "model.optimizer": {"class_path": "MuonSettings", "init_args": {"base_learning_rate": 0.5}},
            "model.sampling.steps": 4,
            "model.evaluation": {
                "num_samples": 5,
                "seeds": [0],
                "scoring_model": {"name": str(self.folder / "scoring_model"), "context_length": 32},
            },
            **more,
        }

    def command(self, command: str, settings: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        """Run a command of the product; its output is in `stdout`."""
        file = self.folder / "settings.json"
        nested: dict[str, Any] = {}
        for name, value in settings.items():
            *groups, last = name.split(".")
            place = nested
            for group in groups:
                place = place.setdefault(group, {})
            place[last] = value
        file.write_text(json.dumps(nested))
        return subprocess.run(
            torchrun(settings["trainer.devices"], "elf_lightning", command, "--config", str(file)),
            env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=LIMIT_SECONDS, check=False,
        )  # fmt: skip

    def done(self, command: str, settings: dict[str, Any]) -> None:
        """Run a command that must succeed.

        Raises:
            SystemExit: with the end of its output, if it does not.
        """
        ended = self.command(command, settings)
        if ended.returncode:
            raise SystemExit(f"{command} ended with {ended.returncode}:\n{ended.stdout[-3000:]}")

    def checkpoint(self, name: str) -> Path:
        """The newest of a run."""
        return self.folder / name / "checkpoints" / "last.ckpt"

    def rows(self, name: str, ranks: int) -> dict[tuple[int, int], str]:
        """What each rank trained on, (rank, step) -> digest of the rows; the last time counts."""
        found: dict[tuple[int, int], str] = {}
        for rank in range(ranks):
            lines = (self.folder / f"{name}-{rank}.jsonl").read_text().splitlines()
            found |= {(rank, line["step"]): line["rows"] for line in map(json.loads, lines)}
        return found

    def lines(self, name: str, file: str) -> list[dict[str, Any]]:
        """The rows of a file of results."""
        return [json.loads(line) for line in (self.folder / name / file).read_text().splitlines()]


def save_words(folder: Path) -> int:
    """A tokenizer of whole words; returns its size."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = {piece: number for number, piece in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    words = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(folder)
    return len(known)


def killed(world: World, ranks: int) -> dict[str, Any]:
    """A run of which the last rank is killed in mid-run, and how it ended."""
    ended = world.command("fit", world.settings("killed", ranks, kill_at=KILLED_AT))
    at = (world.folder / f"killed-{ranks - 1}.jsonl").stat().st_mtime
    told = [line.strip() for line in ended.stdout.splitlines() if KILLED.search(line)]
    return {
        "status": ended.returncode,
        "seconds_until_the_end": time.time() - at,
        "message": told[0] if told else ended.stdout[-500:],
        "kept": ended.returncode != 0 and bool(told),
    }


def resumed(world: World, ranks: int) -> dict[str, Any]:
    """The killed run, gone on with, beside one that was never stopped."""
    world.done("fit", world.settings("whole", ranks))
    world.done("fit", world.settings("killed", ranks, ckpt_path=str(world.checkpoint("killed"))))
    names = ("state_dict", "current_model_state")
    whole, again = (
        torch.load(world.checkpoint(name), weights_only=True, map_location="cpu")
        for name in ("whole", "killed")
    )
    differences = [
        (again[name][key] - value).abs().max().item()
        for name in names
        for key, value in whole[name].items()
        if value.is_floating_point()
    ]
    same_rows = world.rows("whole", ranks) == world.rows("killed", ranks)
    same_step = whole["global_step"] == again["global_step"] == STEPS
    return {
        "same_rows_in_order": same_rows,
        "largest_difference_of_weights": max(differences),
        "kept": same_rows and same_step,
    }


def evaluated(world: World, ranks: int) -> dict[str, Any]:
    """`test` on one rank and on all."""
    checkpoint = {"ckpt_path": str(world.checkpoint("whole"))}
    for name, number in (("one", 1), ("all", ranks)):
        world.done("test", world.settings(name, number, **checkpoint))
    one, every = (world.lines(name, "metrics.jsonl")[0]["metrics"] for name in ("one", "all"))
    texts = [[row["text"] for row in world.lines(name, "samples.jsonl")] for name in ("one", "all")]
    apart = {name: abs(every[name]["mean"] - value["mean"]) for name, value in one.items()}
    same = all(apart[name] <= 1e-5 * (1 + abs(value["mean"])) for name, value in one.items())
    return {"same_texts": texts[0] == texts[1], "differences": apart, "kept": same and texts[0] == texts[1]}


def main() -> None:
    """Try all promises, and report."""
    require(NEEDED)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args()
    table = Table("promise", "kept", title=f"{options.ranks} ranks")
    results: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        world = World.made(Path(folder), "cpu" if options.device == "cpu" else "gpu")
        for promise in (killed, resumed, evaluated):
            result = promise(world, options.ranks)
            results[promise.__name__] = result
            print(f"{promise.__name__}: {json.dumps(result)}", flush=True)
            table.add_row(promise.__name__, str(result["kept"]))
    report([table], results, options)
    raise SystemExit(0 if all(result["kept"] for result in results.values()) else 1)


if __name__ == "__main__":
    main()
