"""`elf distill`: rounds of progressive distillation, stopped anywhere and resumed."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import LightningDataModule, LightningModule

from elf_lightning.checkpoints import load_model
from elf_lightning.checkpoints.locate import newest_checkpoint
from elf_lightning.cli import main
from elf_lightning.cli.distill import TeacherTrainer

WORDS = "in the beginning god created heaven and earth now was without form darkness upon face of deep"
Distill = Callable[..., int]


@pytest.fixture(scope="module")
def config(
    tmp_path_factory: pytest.TempPathFactory, tiny_run: Callable[..., dict[str, Any]], tiny_scoring_model: str
) -> Iterator[dict[str, Any]]:
    """A small configuration, in a working folder with a trained teacher, `runs/teacher`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("runs"))
        patch.syspath_prepend(Path(__file__).parents[1] / "training")  # for `run_hooks`
        words = random.Random(0)
        lines = [" ".join(words.choices(WORDS.split(), k=7)) for _ in range(55)]
        Path("lines.txt").write_text("\n".join(lines))
        settings = tiny_run(
            {
                "name": "students",
                "data.source.init_args.validation_fraction": 0.2,
                "model.optimizer": {"class_path": "MuonSettings", "init_args": {"base_learning_rate": 0.05}},
                "model.evaluation.num_samples": 8,
                "model.evaluation.seeds": [0],
                "model.evaluation.scoring_model": {"name": tiny_scoring_model, "context_length": 32},
                "trainer.max_steps": 4,
                "trainer.logger": False,
                "trainer.callbacks": [EMA],
            }
        )
        Path("config.yaml").write_text(yaml.safe_dump(settings))
        assert main(["fit", "--config", "config.yaml", "--name", "teacher"]) == 0
        yield settings


@pytest.fixture(scope="module")
def distill(config: dict[str, Any]) -> Distill:
    """Runs the command with this configuration and teacher, and more options."""
    return lambda *more: main(["distill", "--config", "config.yaml", "--teacher", "runs/teacher", *more])


EMA = {"class_path": "EMA", "init_args": {"decay": 0.5, "warmup": False}}
SAVER = {"class_path": "ModelCheckpoint", "init_args": {"every_n_train_steps": 1, "save_top_k": -1}}
ONE_STEP = ("--model.evaluation.settings", '[{"steps": 1}]')


def saved(path: str | Path) -> dict[str, Any]:
    return dict(torch.load(path, weights_only=True))


def test_each_round_is_trained_and_scored_beside_the_teacher(distill: Distill) -> None:
    assert distill("--rounds", "4,2") == 0
    for number, steps in ((1, 4), (2, 2)):
        folder = Path(f"runs/students/round-{number}")
        student = load_model(folder).config.default_sampling
        assert (student.steps, student.solver, student.gamma, student.guidance) == (steps, "sde", 1.5, 2.5)
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        sampled = [row["sampling"] for row in rows if row["kind"] == "sampled"]
        found = [(one["steps"], one["gamma"], one["guidance"]) for one in sampled]
        assert found == [(n, 1.5, 2.5) for n in (1, 2, 4, 8)] + [(n, 2.0, 2.0) for n in (16, 32)]
        assert {row["step"] for row in rows} == {4}
        page = (folder / "few_steps.html").read_text()
        assert "1 set(s) of 8" in page
        assert page.count("<svg") == 2
        assert page.count("<th>teacher</th>") == page.count(f"<th>round {number}</th>") == 6
    before = {path: path.stat().st_mtime_ns for path in Path("runs/students").rglob("*") if path.is_file()}
    assert distill("--rounds", "4,2") == 0  # nothing is left to do
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(
    ("validation", "test", "scored"), [(None, None, 1.0), (3, None, 3), (0, None, 1.0), (3, 2, 2), (3, 1, 1)]
)
def test_losses_of_the_scores_are_over_as_many_batches_as_in_validation(
    validation: int | None, test: int | None, scored: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TeacherTrainer, "test", lambda *_, **__: None)
    settings: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    trainer = TeacherTrainer(limit_val_batches=validation, limit_test_batches=test, **settings)
    trainer.fit(LightningModule(), LightningDataModule())
    assert trainer.limit_test_batches == scored


def test_the_first_round_starts_from_the_teacher_and_the_next_from_the_last_student(distill: Distill) -> None:
    """A student that does not learn is its predecessor."""
    still = json.dumps({"class_path": "MuonSettings", "init_args": {"base_learning_rate": 1e-30}})
    still_options = ("--model.optimizer", still, "--model.init_from", "elsewhere.ckpt", *ONE_STEP)
    assert distill("--name", "still", "--rounds", "1", *still_options) == 0
    assert distill("--name", "still", "--rounds", "1,1", *ONE_STEP, "--trainer.max_steps", "1") == 0
    teacher, first, second = (load_model(f"runs/{name}") for name in ("teacher", *STILL))
    for name, weight in first.weights.items():
        torch.testing.assert_close(weight, teacher.weights[name], rtol=0, atol=1e-20)
    assert any(not torch.equal(weight, first.weights[name]) for name, weight in second.weights.items())
    assert second.config.step == 1
    # Checkpoints hold the student alone.
    assert saved(newest_checkpoint("runs/still/round-2"))["state_dict"].keys() == {
        f"network.{name}" for name in teacher.weights
    }


STILL = ("still/round-1", "still/round-2")


def test_a_distillation_stopped_within_and_between_rounds_equals_an_uninterrupted_one(
    distill: Distill,
) -> None:
    def run(name: str, rounds: str, *callbacks: Any) -> int:
        listed = json.dumps([EMA, SAVER, *callbacks])
        return distill("--name", name, "--rounds", rounds, *ONE_STEP, "--trainer.callbacks", listed)

    assert run("whole", "2,1") == 0
    stop = {"class_path": "run_hooks.StopAfter", "init_args": {"step": 2, "how": "exception"}}
    for rounds, *stops in (("2", stop), ("2",), ("2,1", stop), ("2,1",)):
        if stops:
            with pytest.raises(RuntimeError, match="exception after step 2"):
                run("parts", rounds, *stops)
        else:
            assert run("parts", rounds) == 0
    for number in (1, 2):
        folders = [Path(f"runs/{name}/round-{number}") for name in ("whole", "parts")]
        ends = [saved(max((folder / "checkpoints").iterdir(), key=_step)) for folder in folders]
        names = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "global_step")
        whole, parts = ({name: end[name] for name in names} for end in ends)
        assert whole["global_step"] == whole["averaging_state"]["n_averaged"] == 4
        torch.testing.assert_close(parts, whole, rtol=0, atol=0)
        students = [saved(folder / "student.ckpt")["state_dict"] for folder in folders]
        torch.testing.assert_close(students[1], students[0], rtol=0, atol=0)
        torch.testing.assert_close(students[0], whole["state_dict"], rtol=0, atol=0)


def _step(path: Path) -> int:
    return int(saved(path)["global_step"])


def test_a_text_to_text_student_keeps_its_teachers_sampling(
    config: dict[str, Any], distill: Distill, capsys: pytest.CaptureFixture[str]
) -> None:
    words = WORDS.split()
    pairs = [
        {"input": " ".join(words[: 1 + i % 3]), "output": " ".join(words[: 1 + i % 5])} for i in range(55)
    ]
    Path("pairs.jsonl").write_text("".join(f"{json.dumps(pair)}\n" for pair in pairs))
    arguments = {"path": "pairs.jsonl", "validation_fraction": 0.2}
    config = copy.deepcopy(config)
    config["data"] |= {
        "source": {"class_path": "JsonLines", "init_args": arguments},
        "max_condition_length": 4,
        "pad_mode": "eos",
        "label_drop_probability": 0.2,
    }
    config["model"]["sampling"] = {"solver": "ode", "times": [0, 0.3, 0.6, 1], "guidance": 1, "cfg_scale": 2}
    Path("pairs.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", "pairs.yaml", "--name", "translator"]) == 0
    assert "next     elf sample --checkpoint runs/translator --prompt TEXT" in capsys.readouterr().out
    words = ["--config", "pairs.yaml", "--teacher", "runs/translator", "--name", "pairs", "--rounds", "2"]
    assert main(["distill", *words]) == 0
    student = load_model("runs/pairs/round-1").config.default_sampling
    assert (student.num_steps, student.solver, student.cfg_scale) == (2, "ode", 2)
    page = Path("runs/pairs/round-1/few_steps.html").read_text()
    assert "BLEU" in page
    assert page.count("<th>teacher</th>") == 6


def test_a_student_has_the_tokens_of_its_data_and_its_teachers_weights_for_them(
    config: dict[str, Any],
) -> None:
    Path("few_words.txt").write_text("the face of the deep\n" * 40)
    still = json.dumps({"class_path": "MuonSettings", "init_args": {"base_learning_rate": 1e-30}})
    other = ("--data.source.init_args.path", "few_words.txt", "--data.restrict_vocabulary", "true")
    options = ("--name", "few", "--trainer.max_steps", "1", "--model.optimizer", still, *other)
    model = ("--model", "DistillationModule", "--model.teacher", "runs/teacher")
    assert main(["fit", "--config", "config.yaml", *model, *options]) == 0
    teacher, student = load_model("runs/teacher"), load_model("runs/few")
    assert student.config.codec is not None
    kept = student.config.codec.kept_ids
    assert kept is not None
    assert len(kept) < teacher.config.vocab_size
    for name, weight in student.weights.items():
        taught = teacher.weights[name][kept] if "unembed" in name else teacher.weights[name]
        torch.testing.assert_close(weight, taught, rtol=0, atol=1e-20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rounds", "4,0"], "argument --rounds: '4,0' is not a list of step counts; give 1 to 64"),
        (["--rounds", "128"], "argument --rounds: '128' is not a list of step counts; give 1 to 64"),
        (["--rounds", "4,2,x"], "argument --rounds: '4,2,x' is not a list of step counts"),
        (["--rounds", "4", "--start-round", "2"], "--start-round is 2, but the last of --rounds is round 1"),
        (["--rounds", "4,2", "--start-round", "2"], "runs/bad/round-1 has no student.ckpt"),
        (
            ["--name", "teacher/fast"],
            "runs/teacher/fast/teacher is inside of model.teacher runs/teacher, whose newest",
        ),
        (["--teacher", "nobody.ckpt"], "checkpoint 'nobody.ckpt' does not exist"),
        (["--model.network.hidden_size", "32"], "model.teacher runs/teacher: .*hidden_size 16 (here 32)"),
        (["--data.pad_mode", "eos"], "model.teacher runs/teacher: .*data.pad_mode: pad_mode pad (here eos)"),
        (["--model.nothing", "1"], "nothing"),
    ],
)
def test_bad_input_is_one_clear_line(
    options: list[str], message: str, distill: Distill, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert distill("--name", "bad", *options) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("elf distill: ")
    for part in message.split(".*"):
        assert part in last


def test_a_hub_folder_teaches_and_its_students_are_not_taken_for_others(
    distill: Distill, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "runs/teacher", "model", "--format", "hub"]) == 0
    Path("other.txt").write_text("the face of the deep\n" * 40)  # is normalised as the teacher's text was
    other = ("--data.source.init_args.path", "other.txt")
    assert distill("--teacher", "model", "--name", "taken", "--rounds", "2", *ONE_STEP, *other) == 0
    assert distill("--teacher", "model", "--name", "taken", "--rounds", "4") == 2
    assert "runs/taken/round-1 has steps 2 (here 4); choose another --name" in capsys.readouterr().err
    assert distill("--name", "taken", "--rounds", "2") == 2
    assert "has teacher model (here runs/teacher); choose another --name" in capsys.readouterr().err
