"""`elf eval`: the newest checkpoint, with the configuration that its run saved."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from elf_lightning.cli import main
from elf_lightning.cli.evaluate import _data_of
from elf_lightning.codec import TextCodec

ALONE = ["--model.evaluation.num_samples", "3", "--model.evaluation.seeds", "[0]"]
TEXT = "in the beginning god created heaven and earth now was without form darkness upon face of deep"


@pytest.fixture
def train(
    tmp_path: Path,
    tiny_run: Callable[..., dict[str, Any]],
    tiny_scoring_model: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], None]:
    """Trains a small model for a few steps in `runs/NAME`."""
    monkeypatch.chdir(tmp_path)
    words = TEXT.split()
    lines = [" ".join(words[(i * 7 + j * 3) % len(words)] for j in range(30)) for i in range(40)]
    Path("lines.txt").write_text("\n".join(lines))
    config = tiny_run(
        {
            "data.source.init_args.validation_fraction": 0.2,
            "model.sampling.steps": 3,
            "model.evaluation.num_samples": 4,
            "model.evaluation.seeds": [0, 1],
            "model.evaluation.scoring_model": {"name": tiny_scoring_model, "context_length": 32},
            "trainer.max_steps": 2,
        }
    )
    Path("config.yaml").write_text(yaml.safe_dump(config))

    def run(name: str) -> None:
        assert main(["fit", "--config", "config.yaml", "--name", name]) == 0

    return run


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("runs", name).read_text().splitlines()]


def test_the_newest_checkpoint_is_evaluated_with_its_own_configuration(
    train: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    train("older")
    train("newer")
    newest = max(Path("runs/newer").rglob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    os.utime(newest)
    capsys.readouterr()
    assert main(["eval"]) == 0
    assert "evaluating runs/newer/checkpoints/" in capsys.readouterr().err
    assert len(rows("newer/samples.jsonl")) == 8
    numbers = rows("newer/metrics.jsonl")
    assert [row["kind"] for row in numbers] == ["real", "shuffled", "sampled"]
    assert {row["step"] for row in numbers} == {2}
    assert not Path("runs/older/metrics.jsonl").exists()

    Path("runs/older/inner").mkdir()  # of another run, whose name is below this one's
    Path("runs/older/inner/config.yaml").write_text("data: {nothing: 1}")
    Path("sweep.yaml").write_text("model: {evaluation: {sweep: {guidance: [1, 2]}}}")
    assert main(["eval", "--checkpoint", "runs/older", "--config", "sweep.yaml"]) == 0
    assert [row["name"] for row in rows("older/metrics.jsonl") if row["kind"] == "sampled"] == [
        "SDE 3 steps, gamma 1.5, w 1",
        "SDE 3 steps, gamma 1.5, w 2",
    ]


def test_the_newest_checkpoint_needs_no_configuration(
    train: Callable[[str], None], tiny_scoring_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    train("mine")
    (saved,) = {path.resolve() for path in Path("runs/mine").rglob("*.ckpt")}
    # A newer one without configuration, as from a notebook.
    Path("runs/notebook").mkdir()
    shutil.copy(saved, "runs/notebook/model.ckpt")
    capsys.readouterr()
    small = json.dumps({"name": tiny_scoring_model, "context_length": 32})
    assert main(["eval", *ALONE, "--model.evaluation.scoring_model", small]) == 0
    assert "evaluating runs/notebook/model.ckpt" in capsys.readouterr().err
    assert Path("runs/eval-model.ckpt/report.html").is_file()

    # Given explicitly, it is evaluated with the given configuration.
    words = ["eval", "--checkpoint", "runs/notebook", "--config=config.yaml"]
    assert main([*words, "--output", "runs/elsewhere"]) == 0
    assert len(rows("elsewhere/samples.jsonl")) == 8
    assert not Path("runs/notebook/samples.jsonl").exists()


@pytest.mark.parametrize("place", ["runs/newer.ckpt", "newer.ckpt"])
def test_a_checkpoint_above_a_run_has_no_configuration(
    train: Callable[[str], None], capsys: pytest.CaptureFixture[str], place: str
) -> None:
    train("mine")
    (saved,) = {path.resolve() for path in Path("runs/mine").rglob("*.ckpt")}
    shutil.copy(saved, place)
    capsys.readouterr()
    evaluation = {"judge": {"name": "./nothing"}}  # an old name
    Path("scored.yaml").write_text(yaml.safe_dump({"model": {"evaluation": evaluation}}))
    assert main(["eval", *ALONE, "--checkpoint", place, "--config", "scored.yaml"]) == 2
    err = capsys.readouterr().err
    assert f"evaluating {place}" in err
    assert "the scoring model './nothing' cannot be loaded" in err
    assert err.count("judge is now scoring_model") == 1
    assert not Path("runs/mine/report.html").exists()


def test_without_any_checkpoint_the_message_names_the_command_to_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("elf_lightning.encoders.hugging_face.find_spec", lambda package: None)
    assert main(["eval"]) == 2
    assert capsys.readouterr().err == (
        "elf eval: there is no checkpoint under runs/, and the model elf_books is not installed; "
        "`make install` installs it, `make quickstart` trains a model\n"
    )
    Path("runs/mine").mkdir(parents=True)
    assert main(["eval", "--checkpoint", "runs/mine"]) == 2
    assert "folder 'runs/mine' contains no checkpoint" in capsys.readouterr().err


def test_without_any_run_the_shipped_model_is_evaluated(
    shipped: Path, tiny_scoring_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scored = [
        "--model.evaluation.scoring_model",
        json.dumps({"name": tiny_scoring_model, "context_length": 32}),
    ]
    assert main(["eval", *ALONE, *scored]) == 0
    assert f"evaluating {shipped}\n" in capsys.readouterr().err
    assert rows("eval-elf_books/metrics.jsonl")[0]["step"] == 10


def test_the_likelihood_is_one_option_with_settings_of_its_own(
    train: Callable[[str], None], tiny_scoring_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    train("mine")
    assert main(["eval", "--likelihood", "--model.evaluation.likelihood.steps", "1"]) == 0
    for row in rows("mine/metrics.jsonl"):
        assert row["metrics"]["nats_per_token"]["mean"] > 0
        assert row["measured"]["likelihood"] | {"steps": 1, "num_texts": 8} == row["measured"]["likelihood"]

    # The same for a checkpoint outside a run.
    (saved,) = {path.resolve() for path in Path("runs/mine").rglob("*.ckpt")}
    Path("elsewhere").mkdir()
    shutil.copy(saved, "elsewhere/model.ckpt")
    scored = [
        "--model.evaluation.scoring_model",
        json.dumps({"name": tiny_scoring_model, "context_length": 32}),
    ]
    alone = ["eval", "--checkpoint", "elsewhere/model.ckpt", *ALONE, *scored]
    bound = ["--model.evaluation.likelihood", '{"steps": 1, "bound": "diffusion"}']
    assert main([*alone, *bound]) == 0
    (row,) = rows("eval-model.ckpt/metrics.jsonl")
    assert row["measured"]["likelihood"]["bound"] == "diffusion"
    capsys.readouterr()
    assert main([*alone, "--likelihood", "--model.evaluation.likelihood.last_time", "1"]) == 2
    assert "evaluation.likelihood.last_time is 1.0; give a time between 0 and 1" in capsys.readouterr().err


def test_an_empty_checkpoint_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/mine").mkdir(parents=True)
    Path("runs/mine/last.ckpt").touch()
    assert main(["eval"]) == 2
    assert "the file is empty" in capsys.readouterr().err


def test_a_hub_folder_is_evaluated_with_and_without_real_text(
    train: Callable[[str], None], tiny_scoring_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    train("mine")
    assert main(["convert", "runs/mine", "model", "--format", "hub"]) == 0
    for option in ("--trainer.limit_test_batches", "--model.sampling.steps", "--num"):
        assert main(["eval", "--checkpoint", "model", option, "1"]) == 2
        assert (
            f"model belongs to no run and is evaluated without a Trainer: it takes no {option}"
            in capsys.readouterr().err
        )
    small = json.dumps({"name": tiny_scoring_model, "context_length": 32})
    scored = ["--model.evaluation.scoring_model", small]
    words = ["eval", "--checkpoint", "model", *ALONE, *scored]
    assert main(words) == 0
    (alone,) = rows("eval-model/metrics.jsonl")
    assert (alone["kind"], alone["num_samples"], alone["step"]) == ("sampled", 3, 2)
    assert Path("runs/eval-model/report.html").is_file()

    source = json.dumps({"class_path": "TextFiles", "init_args": {"path": "lines.txt", "document": "line"}})
    assert main([*words, "--output", "compared", "--data.source", source, "--data.packing", "truncate"]) == 0
    lines = Path("compared/metrics.jsonl").read_text().splitlines()
    compared = [json.loads(line) for line in lines]
    assert [row["kind"] for row in compared] == ["real", "shuffled", "sampled"]
    assert compared[-1]["metrics"] == alone["metrics"]

    published = {"source": "a paper", "metrics": {"gen_ppl": 24.1}}
    evaluation = {"settings": [{"steps": 2}], "seeds": [42], "published": published}
    data = {"source": json.loads(source), "packing": "truncate"}
    Path("pinned.yaml").write_text(yaml.safe_dump({"data": data, "model": {"evaluation": evaluation}}))
    assert main(["eval", "--checkpoint", "model", "--config", "pinned.yaml", *ALONE[:2], *scored]) == 0
    pinned = rows("eval-model/metrics.jsonl")[-1]
    assert (pinned["name"], pinned["measured"]["seeds"]) == ("SDE 2 steps, gamma 1.5, w 3", [42])
    assert "published: a paper" in Path("runs/eval-model/report.html").read_text()


def test_real_text_is_prepared_as_the_checkpoints_was() -> None:
    lengths = {"max_length": 24, "max_condition_length": 10, "condition_eos": True, "pad_mode": "eos"}
    codec = TextCodec(
        "t5", {"class": "PretrainedEncoder", "name_or_path": "t5"}, 0.0, 0.2, pad_id=0, eos_id=1, **lengths
    )
    assert _data_of(codec).items() >= {**lengths, "latent_mean": 0.0, "latent_std": 0.2}.items()
