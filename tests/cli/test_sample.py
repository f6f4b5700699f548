"""`elf sample` as a user runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from elf_lightning import ELF
from elf_lightning.checkpoints import ModelBundle, save_official
from elf_lightning.cli import main
from elf_lightning.cli import sample as sample_command
from elf_lightning.errors import UserError
from elf_lightning.precision import PRECISIONS
from elf_lightning.sampling import SamplingSettings

Sample = Callable[..., list[str]]
Complaint = Callable[..., str]


@pytest.fixture
def sample(run_folder: str, capsys: pytest.CaptureFixture[str]) -> Sample:
    """The lines that the command prints."""

    def run(*options: str, checkpoint: str = run_folder) -> list[str]:
        assert main(["sample", "--checkpoint", checkpoint, "--device", "cpu", *options]) == 0
        return capsys.readouterr().out.splitlines()

    return run


@pytest.fixture
def complaint(run_folder: str, capsys: pytest.CaptureFixture[str]) -> Complaint:
    """The one line that the command prints before it exits with status 2."""

    def run(*options: str, checkpoint: str | Path = run_folder) -> str:
        assert main(["sample", "--checkpoint", str(checkpoint), "--device", "cpu", *options]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        (line,) = printed.err.splitlines()
        assert line.startswith("elf sample: ")
        return line.removeprefix("elf sample: ")

    return run


def test_prints_what_the_library_generates(sample: Sample, run_folder: str) -> None:
    model = ELF.from_pretrained(run_folder, device="cpu")
    assert sample("--num", "3", "--seed", "5") == model.generate(num=3, seed=5)
    assert len(sample()) == 8


def test_every_setting_is_an_option_and_has_an_effect(sample: Sample, run_folder: str) -> None:
    model = ELF.from_pretrained(run_folder, device="cpu")
    settings = {
        "steps": 6,
        "solver": "sde",
        "gamma": 1.2,
        "grid": "uniform",
        "guidance": 1.5,
        "cfg_scale": 2.0,
        "temperature": 0.7,
        "top_k": 5,
        "repetition_control": 0.0,
        "gamma_end": 0.3,
        "gamma_power": 2.0,
        "early_exit_margin": 0.1,
        "early_exit_fraction": 0.5,
        "best_of": 2,
    }
    given = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    assert sample("--num=4", *given) == model.generate(num=4, **settings)
    assert sample("--num=4", "--times", "0", "0.3", "1") == model.generate(num=4, times=[0.0, 0.3, 1.0])
    assert sample("--num=4", "--grid-per-batch") == model.generate(num=4, grid_per_batch=True)
    drawn = {"temperature": 0.7, "known_words": True}  # this model has no list of words
    assert sample("--num=4", "--temperature=0.7", "--known-words") == model.generate(num=4, **drawn)
    with pytest.raises(UserError, match="has no list of words"):
        model.generate(num=4, known_words=True)
    own = {"solver": "multistep", "solver_options": {"max_growth": 1.5}}
    options = ["--solver", "multistep", "--solver-options", '{"max_growth": 1.5}']
    assert sample("--num=4", *options) == model.generate(num=4, **own)
    other = {"times", "grid_per_batch", "solver_options", "known_words"}
    assert {*settings, *other} == {field.name for field in fields(SamplingSettings)}


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[ELF]:
    """The models that the command has loaded."""
    models: list[ELF] = []
    load = ELF.from_pretrained

    def noted(*args: Any, **kwargs: Any) -> ELF:
        models.append(load(*args, **kwargs))
        return models[-1]

    monkeypatch.setattr(ELF, "from_pretrained", noted)
    return models


@pytest.mark.parametrize("precision", PRECISIONS)
def test_precisions(sample: Sample, run_folder: str, loaded: list[ELF], precision: str) -> None:
    texts = sample("--num", "2", "--precision", precision)
    (model,) = loaded
    assert model.precision == precision
    assert texts == model.generate(2)


def test_sampling_may_be_compiled(sample: Sample, loaded: list[ELF], counter: Any) -> None:
    expected = sample("--num", "2")
    assert sample("--num", "2", "--compile") == expected
    assert [model.generator.compile for model in loaded] == [False, True]
    assert counter.frame_count == 1


def test_nothing_is_compiled_without_a_compiler(
    complaint: Complaint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    line = complaint("--compile")
    assert line.startswith("compile=True (--compile) needs a C++ compiler on a CPU")
    assert "no-such-compiler was not found" in line


def test_last_weights_give_other_texts(sample: Sample) -> None:
    assert sample("--num", "4") != sample("--num", "4", "--last-weights")


def test_any_kind_of_checkpoint(sample: Sample, run_folder: str, tmp_path: Path, bundle: ModelBundle) -> None:
    model = ELF(bundle, "cpu")
    model.save_pretrained(tmp_path / "hub")
    expected = model.generate(num=2)
    for checkpoint in (run_folder, f"{run_folder}/checkpoints/last.ckpt", str(tmp_path / "hub")):
        assert sample("--num", "2", checkpoint=checkpoint) == expected


def test_sample_file_has_one_line_for_each_text(sample: Sample, tmp_path: Path, run_folder: str) -> None:
    output = tmp_path / "new" / "samples.jsonl"
    printed = sample("--num", "3", "--seed", "7", "--batch-size", "2", "--output", str(output))
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [list(row) for row in rows] == [["index", "seed", "text", "tokens"]] * 3
    assert [row["index"] for row in rows] == [0, 1, 2]
    assert {row["seed"] for row in rows} == {7}
    assert [row["text"] for row in rows] == printed
    tokenizer = ELF.from_pretrained(run_folder, device="cpu").codec.text_tokenizer
    assert [tokenizer.decode(row["tokens"]) for row in rows] == printed


def test_sample_file_is_replaced_only_once_there_are_samples(
    sample: Sample, complaint: Complaint, tmp_path: Path
) -> None:
    output = tmp_path / "samples.jsonl"
    sample("--num", "3", "--output", str(output))
    before = output.read_text()
    complaint("--infill", "nothing to fill", "--output", str(output))
    assert output.read_text() == before
    sample("--num", "1", "--output", str(output))
    assert len(output.read_text().splitlines()) == 1


def test_a_closed_pipe_stops_the_printing_and_not_the_file(
    run_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["sample", "--checkpoint", run_folder, "--device", "cpu", "--num", "3"]
    output = tmp_path / "samples.jsonl"
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main([*words, "--output", str(output)]) == 0
        assert len(output.read_text().splitlines()) == 3


def test_an_interruption_leaves_an_earlier_file_and_the_texts_before(
    sample: Sample, run_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, page = tmp_path / "samples.jsonl", tmp_path / "page.html"
    sample("--num", "1", "--output", str(output), "--trajectory", str(page))
    before = output.read_text(), page.read_text()
    show = sample_command._show

    def stop(sample: Any, *rest: Any) -> None:
        if sample.index == 2:
            raise KeyboardInterrupt
        show(sample, *rest)

    monkeypatch.setattr(sample_command, "_show", stop)
    words = ["sample", "--checkpoint", run_folder, "--device", "cpu", "--num", "3"]
    assert main([*words, "--output", str(output), "--trajectory", str(page)]) == 130
    assert (output.read_text(), page.read_text()) == before
    assert len(output.with_name("samples.jsonl.incomplete").read_text().splitlines()) == 2


def test_a_full_disk_is_one_line(run_folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "--checkpoint", run_folder, "--num", "1", "--trajectory", "/dev/full"]) == 2
    line = capsys.readouterr().err.removeprefix("elf sample: ")
    assert re.match(
        r"'/dev/full' cannot be written: No space left on device \([\d.]+ MB needed, .* MB free\)", line
    )


def test_prompts_from_options_and_from_a_file(sample: Sample, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("god said\nlet there be light\n")
    texts = sample("--prompt-file", str(file), "--num", "2")
    assert texts == sample("--prompt", "god said", "--prompt", "let there be light", "--num", "2")
    assert len(texts) == 4
    assert all(text.startswith("god said") for text in texts[:2])
    assert all(text.startswith("let there be light") for text in texts[2:])


def test_repetition_is_measured_unless_it_was_before(sample: Sample, run_folder: str, tmp_path: Path) -> None:
    steered = sample("--num", "4", "--repetition-control", "3", "--repetition-texts", "20")
    assert steered != sample("--num", "4")
    model = ELF.from_pretrained(run_folder, device="cpu")
    model.measure_repetition(20)
    assert steered == model.generate(4, repetition_control=3.0)
    model.save_pretrained(tmp_path / "hub")
    kept = sample(
        "--num=4", "--repetition-control=3", "--repetition-texts=5", checkpoint=str(tmp_path / "hub")
    )
    assert steered == kept, "nothing is measured again"


def test_repetition_is_measured_at_the_given_settings(sample: Sample, run_folder: str) -> None:
    given = ("--num", "4", "--steps", "7", "--solver", "ode", "--repetition-control", "3")
    model = ELF.from_pretrained(run_folder, device="cpu")
    model.measure_repetition(20, steps=7, solver="ode")
    expected = model.generate(4, steps=7, solver="ode", repetition_control=3.0)
    assert sample(*given, "--repetition-texts", "20") == expected


def test_repetition_of_answers(sample: Sample, save_run: Callable[..., str]) -> None:
    checkpoint = save_run("text_to_text", max_condition_length=4)
    given = ("--prompt", "god said", "--prompt", "light", "--repetition-texts", "21")
    unsteered = sample(*given, checkpoint=checkpoint)
    assert sample(*given, "--repetition-control", "3", checkpoint=checkpoint) != unsteered


def test_special_tokens_in_a_prompt_are_ordinary_text(sample: Sample, complaint: Complaint) -> None:
    """EOS as a special token would cut off the words after it."""
    assert "tokens; give 1 to 11" in complaint("--prompt", "[SEP] " * 4)
    (text,) = sample("--infill", "god [SEP] light _")
    assert text.split()[-2] == "light"


def test_text_to_text_answers(sample: Sample, save_run: Callable[..., str]) -> None:
    checkpoint = save_run("text_to_text", max_condition_length=4)
    assert len(sample("--prompt", "god said", checkpoint=checkpoint)) == 1


def test_infill_keeps_the_given_words(sample: Sample) -> None:
    (text,) = sample("--infill", "god __ the light _")
    words = text.split()
    assert len(words) == 6
    assert [words[0], *words[3:5]] == ["god", "the", "light"]


def test_trajectory_page_ends_in_the_texts(sample: Sample, tmp_path: Path) -> None:
    page = tmp_path / "path.html"
    texts = sample("--num", "2", "--steps", "5", "--trajectory", str(page))
    content = page.read_text()
    for text in texts:
        assert f'<p class="text">{text}</p>' in content
    data = json.loads(content.split('id="data">')[1].split("</script>")[0])
    assert len(data["times"]) == 5
    assert data["times"][-1] == 1
    for text, path in zip(texts, data["texts"], strict=True):
        assert "".join(path["pieces"][-1]).strip() == text
    assert "seed 0, SDE 5 steps" in content
    assert texts == sample("--num", "2", "--steps", "5")


def test_trajectory_may_be_a_picture(sample: Sample, tmp_path: Path) -> None:
    (text,) = sample("--num", "1", "--steps", "3", "--trajectory", str(tmp_path / "path.svg"))
    picture = (tmp_path / "path.svg").read_text()
    assert picture.startswith("<svg")
    assert all(f">{word}</text>" in picture for word in text.split())


def test_a_movie_has_a_picture_for_each_step(sample: Sample, tmp_path: Path) -> None:
    text = sample("--num", "1", "--steps", "5", "--movie", str(tmp_path / "text.svg"))[0]
    picture = ElementTree.parse(tmp_path / "text.svg").getroot()
    groups = picture.findall("{*}g")
    assert len(groups) == 5
    assert groups[-1].get("class") == "last"
    shown = " ".join("".join(line.itertext()).strip() for line in groups[-1].findall("{*}text")[1:])
    assert "".join(shown.split()) == "".join(text.split())


def test_long_trajectory_is_thinned_out(sample: Sample, tmp_path: Path) -> None:
    page = tmp_path / "path.html"
    sample("--num", "1", "--steps", "130", "--trajectory", str(page))
    data = json.loads(page.read_text().split('id="data">')[1].split("</script>")[0])
    assert len(data["times"]) == 44
    assert data["times"] == sorted(data["times"])
    assert data["times"][-1] == 1


def test_terminal_shows_panels_and_the_settings_in_force(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    screen = "\n".join(sample("--prompt", "god said", "--guidance", "2.5"))
    for words in (
        "last.ckpt",
        "10 training steps",
        "seed 0, SDE 4 steps",
        "w 2.5",
        "0: god said",
        "tokens",
    ):
        assert words in screen
    assert "╭" in screen


def test_help_is_quick() -> None:
    code = (
        "import sys\n"
        "from elf_lightning.cli import main\n"
        "try: main(['sample', '--help'])\n"
        "except SystemExit: print(*sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "--repetition-control" in output
    assert "0 takes the most likely token" in " ".join(output.split())
    loaded = set(output.splitlines()[-1].split())
    assert "elf_lightning.cli.sample" in loaded
    assert not {"torch", "transformers", "lightning", "datasets", "torchmetrics"} & loaded


def test_options_that_make_no_sense(complaint: Complaint, tmp_path: Path) -> None:
    assert "steps is 0; it must be at least 1" in complaint("--steps", "0")
    assert "--steps: invalid int value: 'many'" in complaint("--steps", "many")
    assert "sampling.solver is 'rk45'; known are ode, euler, sde" in complaint("--solver", "rk45")
    assert "--grid: invalid choice" in complaint("--grid", "cosine")
    assert "sampling.times is [0.0, 0.5]; give rising times" in complaint("--times", "0", "0.5")
    assert "sampling.guidance is -1.0" in complaint("--guidance=-1")
    assert "set a temperature above 0" in complaint("--top-k", "3")
    given = ("--repetition-control", "2", "--repetition-texts", "5")
    assert "from 5 trajectories is noise; use at least 6" in complaint(*given)
    assert "--num: 0 is too small" in complaint("--num", "0")
    assert "--batch-size: 0 is too small" in complaint("--batch-size", "0")
    line = complaint("--setps", "3")
    assert (
        "unrecognized arguments: --setps 3; `elf sample --help` lists the options (did you mean --steps?)"
        in line
    )
    assert "not allowed with argument --prompt" in complaint("--prompt", "god", "--infill", "_")
    assert "--output: " in complaint("--output", str(tmp_path))
    both = ("--output", str(tmp_path / "a"), "--trajectory", str(tmp_path / "b" / ".." / "a"))
    assert "overwrite each other" in complaint(*both)
    assert "device 'quantum' cannot be used" in complaint("--device", "quantum")
    (tmp_path / "file").touch()
    assert "a.html' cannot be written; choose another" in complaint(
        "--trajectory", str(tmp_path / "file" / "a.html")
    )


def test_a_model_in_an_installed_package(sample: Sample, shipped: Path) -> None:
    expected = sample("--num", "2", checkpoint=str(shipped))
    for name in ("package:elf_books/model", "elf_books"):
        assert sample("--num", "2", checkpoint=name) == expected


def test_without_a_checkpoint_the_newest_run_or_else_the_shipped_model(
    run_folder: str, shipped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sample", "--device", "cpu", "--num", "1"]
    assert main(words) == 0
    assert capsys.readouterr().err == f"sampling from {shipped}\n"
    (Path("runs") / "empty").mkdir(parents=True)
    assert main(words) == 0
    assert capsys.readouterr().err == f"sampling from {shipped}\n"
    Path(run_folder).rename("runs/mine")
    assert main(words) == 0
    assert capsys.readouterr().err == "sampling from runs/mine/checkpoints/last.ckpt\n"


def test_without_a_checkpoint_anywhere_the_message_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("elf_lightning.encoders.hugging_face.find_spec", lambda package: None)
    assert main(["sample"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "elf sample: there is no checkpoint under runs/, and the model elf_books is not installed; "
        "`make install` installs it, `make quickstart` trains a model"
    )


def test_prompts_that_make_no_sense(complaint: Complaint, tmp_path: Path) -> None:
    assert "has 12 tokens; give 1 to 11" in complaint("--prompt", "light " * 12)
    assert "has no blank" in complaint("--infill", "let there be light")
    for option in ("--prompt", "--infill"):
        assert "'god \\udcff _' has bytes that are not UTF-8" in complaint(option, "god \udcff _")
    assert "13 tokens, more than the model's 12" in complaint("--infill", "_" * 13)
    file = tmp_path / "prompts.txt"
    assert "cannot be read: No such file" in complaint("--prompt-file", str(file))
    file.write_text("")
    assert "is empty; give a file with one text per line" in complaint("--prompt-file", str(file))
    file.write_text("god\n\nlight\n")
    assert "line 2 is empty" in complaint("--prompt-file", str(file))
    file.write_bytes(b"\xff\xfe\xff")
    assert "not UTF-8 text" in complaint("--prompt-file", str(file))


def test_checkpoints_that_cannot_be_used(complaint: Complaint, run_folder: str, tmp_path: Path) -> None:
    whole = Path(run_folder) / "checkpoints" / "last.ckpt"
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(whole.read_bytes()[:1000])
    assert "damaged, truncated or not a checkpoint" in complaint(checkpoint=cut)
    cut.write_text("let there be light\n")
    assert "damaged, truncated or not a checkpoint" in complaint(checkpoint=cut)
    cut.write_bytes(b"")
    assert "the file is empty" in complaint(checkpoint=cut)
    (tmp_path / "nothing").mkdir()
    assert "contains no checkpoint" in complaint(checkpoint=tmp_path / "nothing")
    assert "does not exist; give a file" in complaint(checkpoint=tmp_path / "missing.ckpt")
    assert "package 'no_such' is not installed" in complaint(checkpoint="package:no_such/model")
    assert "has no folder 'nowhere'" in complaint(checkpoint="package:elf_lightning/nowhere")
    assert "package '' is not installed" in complaint(checkpoint="package:")
    for inside in ("../rich", "conf/../../rich", f"/{tmp_path}"):
        assert "is outside the package 'elf_lightning'" in complaint(
            checkpoint=f"package:elf_lightning/{inside}"
        )
    assert "or an installed package with a model" in complaint(checkpoint="elf_lightning")
    assert "could not be downloaded from the Hugging Face Hub" in complaint(checkpoint="owner/missing")
    torch.save({"weights": torch.zeros(2)}, cut)
    assert "neither elf_lightning nor the official code wrote it" in complaint(checkpoint=cut)


def test_checkpoint_of_another_encoder_or_vocabulary(
    complaint: Complaint, save_run: Callable[..., str], tiny_t5: str, bundle: ModelBundle, tmp_path: Path
) -> None:
    other = {"class": "PretrainedEncoder", "name_or_path": str(tmp_path / "gone"), "layer": None}
    assert "gone" in complaint("--prompt", "god", checkpoint=save_run("encoder", encoder=other))
    assert "does not fit the model" in complaint(checkpoint=save_run("vocabulary", tokenizer=tiny_t5))
    save_official(bundle, tmp_path / "checkpoint_3")
    unnamed = complaint(checkpoint=tmp_path / "checkpoint_3")
    assert "does not say which tokenizer" in unnamed


def test_an_encoder_that_has_moved(
    sample: Sample, complaint: Complaint, save_run: Callable[..., str], bundle: ModelBundle, tmp_path: Path
) -> None:
    codec = bundle.config.codec
    assert codec is not None
    gone = save_run("moved", tokenizer="./gone", encoder={**codec.encoder, "name_or_path": "./gone"})
    assert "If the encoder has moved, say where it is with --encoder" in complaint(checkpoint=gone)
    words = ("--prompt", "god said", "--num", "2")
    expected = sample(*words)
    assert sample(*words, "--encoder", codec.tokenizer, checkpoint=gone) == expected
    hub = str(tmp_path / "hub")
    assert main(["convert", gone, hub, "--format", "hub", "--encoder", codec.tokenizer]) == 0
    assert sample(*words, checkpoint=hub) == expected


def test_prompts_are_needed_where_the_model_answers(
    complaint: Complaint, save_run: Callable[..., str]
) -> None:
    checkpoint = save_run("text_to_text", max_condition_length=4)
    assert "needs prompts" in complaint(checkpoint=checkpoint)
    assert "text-to-text; give prompts" in complaint("--infill", "_ god", checkpoint=checkpoint)
    assert "has 5 tokens; give 1 to 4" in complaint("--prompt", "god " * 5, checkpoint=checkpoint)


def test_settings_of_the_checkpoint_are_the_defaults(
    sample: Sample, bundle: ModelBundle, tmp_path: Path
) -> None:
    sampling = SamplingSettings(steps=3, guidance=1.0)
    changed = replace(bundle, config=replace(bundle.config, sampling=sampling))
    ELF(changed, "cpu").save_pretrained(tmp_path / "hub")
    texts = sample("--num", "4", checkpoint=str(tmp_path / "hub"))
    assert texts == sample("--num", "4", "--steps", "3", "--guidance", "1")
