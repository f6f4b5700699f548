"""`make soak N=100`: kills, signals, full disks and changed bytes at random moments and places.

Prints a table of what was tried, survived and lost. A run survives if the same command, given again until it
ends, gives the weights, averages and optimizer state of a run that was left alone, bit for bit; a file with a
changed byte, if it is refused in one line or gives the same values. Single processes are forked, so that a
trial takes seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from conftest import TINY_WORDS, save_tokenizer
from elf_lightning import ELF
from elf_lightning.checkpoints import load_model, newest_checkpoint
from elf_lightning.checkpoints.torch_file import read_torch_file
from elf_lightning.cli import main
from elf_lightning.data import ELFDataModule, TextFiles
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.errors import UserError

STATE = (
    "state_dict",
    "current_model_state",
    "averaging_state",
    "optimizer_states",
    "lr_schedulers",
    "global_step",
)
STARTS = 12  # of one run, at most
DATA = {"max_length": 8, "batch_size": 4, "restrict_vocabulary": True, "cache_latents": True}
TWO_RANKS = ("--trainer.devices", "2", "--trainer.strategy", "ddp")


def make_inputs() -> None:
    """Corpus, encoder and configuration in the working folder."""
    from transformers import T5Config, T5ForConditionalGeneration

    size = save_tokenizer(Path("encoder"), pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    sizes = {
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 32,
        "num_layers": 3,
        "num_heads": 2,
        "decoder_start_token_id": 0,
    }
    torch.manual_seed(0)
    T5ForConditionalGeneration(T5Config(vocab_size=size, **sizes)).save_pretrained("encoder")
    words = random.Random(0)
    Path("lines.txt").write_text("\n".join(" ".join(words.choices(TINY_WORDS, k=30)) for _ in range(60)))
    source = {"path": "lines.txt", "document": "line", "validation_fraction": 0.2}
    settings = {
        "data": {
            "source": {"class_path": "TextFiles", "init_args": source},
            "encoder": {"class_path": "PretrainedEncoder", "init_args": {"name_or_path": "encoder"}},
            **DATA,
        },
        "model": {"network": {"hidden_size": 16, "depth": 2, "num_heads": 2, "bottleneck_size": 8}},
        "trainer": {
            "accelerator": "cpu", "enable_progress_bar": False, "max_steps": 60, "max_epochs": -1,
            "val_check_interval": 20, "accumulate_grad_batches": 2, "log_every_n_steps": 5,
        },
    }  # fmt: skip
    Path("config.yaml").write_text(json.dumps(settings))


class Process:
    """A `fit`, forked or, with two ranks, started anew; its output goes to `log.txt`."""

    def __init__(self, words: list[str], most: int | None = None) -> None:
        self.started = None
        if TWO_RANKS[0] in words:
            with Path("log.txt").open("a") as log:
                command = [sys.executable, "-m", "elf_lightning", *words]
                self.started = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            self.pid = self.started.pid
        elif not (pid := os.fork()):
            with Path("log.txt").open("a") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            if most is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
            status = 1
            try:
                status = main(words)
            finally:
                os._exit(status)
        else:
            self.pid = pid

    def wait(self) -> int:
        if self.started:
            return self.started.wait()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill_after(self, seconds: float, signum: int) -> None:
        """Kill all ranks; any other signal goes to the first."""
        time.sleep(seconds)
        try:
            (os.killpg if self.started and signum == signal.SIGKILL else os.kill)(self.pid, signum)
        except ProcessLookupError:
            return


def command(name: str, *more: str) -> list[str]:
    """The words that begin or continue a run."""
    words = ["fit", "--config", "config.yaml", "--name", name, *more]
    begun = any(Path("runs", name, "checkpoints").glob("*.ckpt"))
    return [*words, "--ckpt_path", f"runs/{name}"] if begun else words


def final(name: str) -> dict[str, Any]:
    content = read_torch_file(newest_checkpoint(f"runs/{name}"))
    return {entry: content[entry] for entry in STATE}


def same(one: Any, other: Any) -> bool:
    try:
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    except AssertionError:
        return False
    return True


def interrupted(
    name: str, whole: dict[str, Any], seconds: float, chance: random.Random, signum: int, *more: str
) -> bool:
    """Whether a run that is stopped again and again ends as the `whole` one."""
    for _ in range(STARTS):
        process = Process(command(name, *more))
        process.kill_after(chance.uniform(0, seconds), signum)
        if process.wait() == 0:
            break
    else:
        if Process(command(name, *more)).wait():
            return False
    return same(final(name), whole)


def full_disk(name: str, whole: dict[str, Any], chance: random.Random) -> bool:
    """Whether a run that cannot write a file says so in one line, and ends as the `whole` one later."""
    # Caches come first: of the same size every time, they would stop every start.
    log = Path("log.txt")
    log.write_bytes(b"")  # a log that is longer than the limit could not take the message
    status = Process(command(name), most=chance.randrange(20_000, 400_000)).wait()
    said = log.read_bytes()
    if status and (status != 2 or said.count(b"cannot be written") != 1 or b"Traceback" in said):
        return False
    return not Process(command(name)).wait() and same(final(name), whole)


def changed_byte(folder: Path, read: Callable[[Path], Any], whole: Any, chance: random.Random) -> bool:
    """Whether a byte changed in any file of a folder is found, or has no meaning."""
    with tempfile.TemporaryDirectory(dir=".") as place:
        copy = Path(shutil.copytree(folder, Path(place) / folder.name))
        files = [file for file in sorted(copy.rglob("*")) if file.is_file() and file.name != "README.md"]
        file = chance.choice([file for file in files if not file.is_symlink() and file.stat().st_size])
        data = bytearray(file.read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        file.write_bytes(data)
        try:
            return same(read(copy), whole)
        except UserError as error:
            return "\n" not in str(error)


def read_run(folder: Path) -> dict[str, Any]:
    return {
        entry: value for entry, value in read_torch_file(newest_checkpoint(folder)).items() if entry in STATE
    }


def read_model(folder: Path) -> dict[str, Any]:
    bundle = load_model(folder)
    return {"weights": dict(bundle.weights), "config": json.dumps(bundle.config.to_dict(), sort_keys=True)}


def read_cache(folder: Path) -> list[Any]:
    source = TextFiles("lines.txt", document="line", validation_fraction=0.2)
    data = ELFDataModule(source, PretrainedEncoder("encoder"), cache_dir=str(folder), **DATA)
    data.prepare_data()
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]
    return [[batch.input_ids, batch.latents, data.codec.kept_ids] for batch in batches]


def soak(number: int, seed: int) -> bool:
    chance = random.Random(seed)
    make_inputs()
    wholes = {}
    for ranks, more in ((1, ()), (2, TWO_RANKS)):
        Process(command(f"whole-{ranks}", *more)).wait()  # fills the cache, and Python's
        shutil.rmtree(f"runs/whole-{ranks}")
        begun = time.monotonic()
        assert Process(command(f"whole-{ranks}", *more)).wait() == 0, Path("log.txt").read_text()
        wholes[ranks] = (final(f"whole-{ranks}"), time.monotonic() - begun)
    ELF(load_model("runs/whole-1"), "cpu").save_pretrained("hub")
    cache = Path(".cache/elf_lightning")
    readers = {
        "checkpoint": (Path("runs/whole-1/checkpoints"), read_run),
        "Hub folder": (Path("hub"), read_model),
        "cache": (cache, read_cache),
    }
    tried, survived = Counter[str](), Counter[str]()

    def note(kind: str, trial: Callable[[], bool]) -> None:
        tried[kind] += 1
        survived[kind] += trial()
        print(f"{kind}: {survived[kind]} of {tried[kind]}", flush=True)

    os.environ["TMPDIR"] = "/dev/shm"  # another file system
    for index in range(number):
        ranks = 1 + (index % 10 == 9)
        whole, seconds = wholes[ranks]
        more = list(TWO_RANKS) if ranks == 2 else ["--data.num_workers", str(index % 2)]
        if index % 5 == 0:
            more += ["--data.cache_dir", f"cache-{index}"]  # so that preparing is stopped too
        signum = chance.choice(
            [signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]
        )
        kind = f"{signum.name}, {ranks} process(es)"
        note(kind, partial(interrupted, f"run-{index}", whole, seconds, chance, signum, *more))
        if index % 5 == 1:
            note("full disk", partial(full_disk, f"full-{index}", wholes[1][0], chance))
        shutil.rmtree(f"cache-{index}", ignore_errors=True)
    for kind, (folder, read) in readers.items():
        same_as = read(folder)
        for _ in range(number):
            note(f"changed byte, {kind}", partial(changed_byte, folder, read, same_as, chance))
    print("\n| | tried | survived | lost |\n|---|---:|---:|---:|")
    for kind in tried:
        print(f"| {kind} | {tried[kind]} | {survived[kind]} | {tried[kind] - survived[kind]} |")
    return survived == tried


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("number", type=int, nargs="?", default=100, help="trials of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder", type=Path, help="a new folder to work in, which is kept (default: a temporary one)"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        place = options.folder or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        os.chdir(place)
        sys.exit(0 if soak(options.number, options.seed) else 1)
