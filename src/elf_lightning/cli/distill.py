"""`elf distill`: students that sample in ever fewer steps, by progressive distillation."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import wraps
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from elf_lightning.checkpoints import ELFConfig, load_model
from elf_lightning.cli import trainer
from elf_lightning.cli.config import loaded
from elf_lightning.cli.options import OneLineParser, named_run, positive
from elf_lightning.errors import Stopped, UserError
from elf_lightning.evaluation.results_file import ResultsFile
from elf_lightning.reporting import Scores, few_steps_page
from elf_lightning.sampling import SamplingSettings
from elf_lightning.whole_file import write_whole

TEACHER_STEPS = 64  # steps of the teacher from noise to data, in every round
SCORED_STEPS = (1, 2, 4, 8, 16, 32)
STUDENT, PAGE = "student.ckpt", "few_steps.html"
"""Where the first exists, a round's training is over: its averaged weights. The second ends the round."""


class ScoringTrainer(Trainer):
    """Scores a model; its losses are over `limit_test_batches`, by default as many as in validation."""

    def score(self, model: LightningModule, data: LightningDataModule, student: Path | None = None) -> None:
        """Test the weights in the file `student`, otherwise those of `model`."""
        # For the losses of a batch, the teacher takes all its steps: whole validation texts would take hours.
        unset = self.limit_test_batches == 1.0 and isinstance(self.limit_test_batches, float)  # 1: one batch
        if unset and self.limit_val_batches:
            self.limit_test_batches = self.limit_val_batches
        self.test(model, datamodule=data, ckpt_path=student, verbose=False)
        trainer.say_metrics(self)


class RoundTrainer(ScoringTrainer):
    """Trains a student unless that is done, and scores it."""

    @wraps(Trainer.fit)  # LightningCLI reads the options from the signature
    def fit(self, model: LightningModule, datamodule: LightningDataModule, **options: Any) -> None:  # type: ignore[override]  # noqa: D102
        student = Path(self.default_root_dir, STUDENT)
        if not student.exists():
            super().fit(model, datamodule=datamodule, **options)
            self.save_checkpoint(student, weights_only=True)
        self.score(model, datamodule, student)
        if self.is_global_zero:
            _write_page(student.parent)


class TeacherTrainer(ScoringTrainer):
    """Scores the teacher, with whose weights the student begins."""

    @wraps(Trainer.fit)
    def fit(self, model: LightningModule, datamodule: LightningDataModule, **_: Any) -> None:  # type: ignore[override]  # noqa: D102
        self.score(model, datamodule)


def _rounds(text: str) -> list[int]:
    words = text.split(",")
    if not all(word.isdecimal() and 1 <= int(word) <= TEACHER_STEPS for word in words):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a list of step counts; give 1 to {TEACHER_STEPS}, such as 16,8,4,2,1"
        )
    return [int(word) for word in words]


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="elf distill",
        usage="elf distill --config CONFIG --teacher CHECKPOINT [options of `elf fit`]",
        description="Progressive distillation: each round trains a student to sample in fewer steps, in "
        "runs/NAME/round-1, round-2 and so on, and scores it beside its teacher. The same command resumes: "
        "finished rounds are kept, an interrupted one continues.",
        epilog="`elf fit --help-all` lists the other options; `--config elf_105m_distill` is as published.",
    )
    parser.add_argument("--config", "-c", action="append", required=True, help="as for `elf fit`")
    parser.add_argument("--teacher", required=True, help="checkpoint of the original model, in any format")
    add, rounds = parser.add_argument, "steps of the student in each round (default: %(default)s)"
    add("--rounds", type=_rounds, default="16,8,4,2,1", metavar="N,N,…", help=rounds)
    start = "leave out earlier rounds (default: 1)"
    add("--start-round", type=positive, default=1, metavar="N", help=start)
    add("--name", help="name of the run (default: the configuration's)")
    return parser


def run(arguments: Sequence[str]) -> None:
    """Run `["distill", "--config", "quickstart", "--teacher", "runs/quickstart", "--name", "fast"]`."""
    options, others = _parser().parse_known_args(arguments[1:])
    rounds, start = options.rounds, options.start_round
    if start > len(rounds):
        raise UserError(f"--start-round is {start}, but the last of --rounds is round {len(rounds)}")
    configs = [word for config in options.config for word in ("--config", config)]
    names = (settings["name"] for settings in map(loaded, reversed(options.config)) if "name" in settings)
    root = named_run(options.name or next(names, "elf"))
    config = load_model(options.teacher).config
    scored = [_given(sampling(config, steps)) for steps in SCORED_STEPS]

    def words(folder: Path, steps: int, *more: str) -> list[str]:
        return [
            *("fit", *configs, "--model", "DistillationModule"),
            *("--model.evaluation.settings", json.dumps(scored)),
            # With nulls, which replace the configuration's values.
            *("--model.sampling", json.dumps(asdict(sampling(config, steps)))),
            *others,
            *("--model.teacher", options.teacher),
            *("--model.step_size", str(1 / steps)),
            *("--model.teacher_steps", str(TEACHER_STEPS // steps)),
            *("--trainer.default_root_dir", str(folder)),
            *more,
        ]

    for number, steps in enumerate(rounds, start=1):
        folder, before = root / f"round-{number}", root / f"round-{number - 1}"
        if number < start:
            continue
        if number > 1 and not (before / STUDENT).exists():
            raise UserError(f"--start-round {start}: {before} has no {STUDENT}; finish that round first")
        if not (root / "teacher" / "report.html").exists():
            trainer.run(words(root / "teacher", steps, "--model.init_from", "null"), TeacherTrainer)
        _check_same(folder, {"teacher": str(Path(options.teacher)), "steps": steps})
        if not (folder / PAGE).exists():
            rank_zero_info(f"round {number}: a student of {steps} step(s), in {folder}")
            # Of the first round, none: it starts from the teacher, whatever the configuration starts from.
            more = ["--model.init_from", str(before / STUDENT) if number > 1 else "null"]
            if any((folder / "checkpoints").glob("*.ckpt")):
                more += ["--ckpt_path", str(folder / "checkpoints")]
            try:
                trainer.run(words(folder, steps, *more), RoundTrainer)
            except Stopped as stopped:
                stopped.remedy = "the same command continues"
                raise
    rank_zero_info(f"scores   {folder / PAGE}\nnext     elf sample --checkpoint {folder}")


def sampling(config: ELFConfig, steps: int) -> SamplingSettings:
    """The published configuration for few steps; for text-to-text, the teacher's with other steps."""
    if config.codec is not None and config.codec.max_condition_length is not None:
        return replace(config.default_sampling, steps=steps, times=None)
    gamma, guidance = (1.5, 2.5) if steps <= 8 else (2.0, 2.0)
    return SamplingSettings(steps=steps, gamma=gamma, guidance=guidance)


def _given(settings: SamplingSettings) -> dict[str, Any]:
    """Without nulls, which the parser refuses within a list."""
    return {name: value for name, value in asdict(settings).items() if value is not None}


def _check_same(folder: Path, settings: dict[str, Any]) -> None:
    """Note what a round is; refuse to take it for another."""
    file = folder / "round.json"
    if not file.exists():
        write_whole(file, json.dumps(settings))
    for name, known in json.loads(file.read_text(encoding="utf-8")).items():
        if known != settings[name]:
            raise UserError(f"{folder} has {name} {known} (here {settings[name]}); choose another --name")


def _write_page(folder: Path) -> None:
    """Scores by steps: the teacher's, those of earlier rounds, and of this one."""
    last = int(folder.name.removeprefix("round-"))
    folders = {"teacher": folder.with_name("teacher")}
    folders |= {f"round {number}": folder.with_name(f"round-{number}") for number in range(1, last + 1)}
    models = {}
    for name, place in folders.items():
        if rows := ResultsFile(place / "metrics.jsonl").read():
            sampled = (row for row in rows if row["kind"] == "sampled")
            models[name] = {row["sampling"]["steps"]: Scores.from_record(row) for row in sampled}
    real = [Scores.from_record(row) for row in rows if row["kind"] == "real"]
    details = json.loads((folder / "round.json").read_text(encoding="utf-8"))
    details["scoring model"] = rows[-1]["scoring_model"] or "none"
    details["texts"] = f"{rows[-1]['num_sets']} set(s) of {rows[-1]['num_samples']}"
    page = few_steps_page(f"{folder.parent.name}, round {last}", details, models, real[-1] if real else None)
    write_whole(folder / PAGE, page)
