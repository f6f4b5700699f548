"""The shipped configurations: all are understood, and the paper's hold the paper's values."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser

from elf_lightning.cli import main
from elf_lightning.data import ELFDataModule
from elf_lightning.errors import UserError
from elf_lightning.network import PRESETS

CONF = Path(__file__).parents[2] / "conf"
RUNS = sorted(CONF.glob("*.yaml"))
DATA = sorted((CONF / "data").glob("*.yaml"))
EVALUATIONS = sorted((CONF / "eval").glob("*.yaml"))
PUBLISHED = {
    "105m_32_steps": ("elf_105m", {"gen_ppl": 24.1, "entropy": 5.15}),
    "105m_64_steps": ("elf_105m", {"gen_ppl": 19.7, "entropy": 5.10}),
    "342m": ("elf_342m", {"gen_ppl": 21.7, "entropy": 5.18}),
    "652m": ("elf_652m", {"gen_ppl": 23.3, "entropy": 5.28}),
    "wmt14_de_en": ("elf_105m_wmt14_de_en", {"bleu": 26.4}),
    "xsum": ("elf_105m_xsum", {"rouge1": 36.0, "rouge2": 12.2, "rougeL": 27.8}),
}
"""Run and figures of each published evaluation."""
PAPER = {
    "elf_105m": ("elf-b", 5, 32, 1.5),
    "elf_342m": ("elf-m", 4, 64, 1.0),
    "elf_652m": ("elf-l", 3, 64, 1.0),
}
"""Preset, epochs, sampling steps and gamma."""


@cache
def printed(*words: str) -> str:
    """What a command prints as its complete configuration."""
    output = io.StringIO()
    with redirect_stdout(output), pytest.raises(SystemExit) as ending:
        main([*words, "--print_config"])
    assert ending.value.code == 0
    return output.getvalue()


def print_config(*words: str) -> dict[str, Any]:
    """The complete configuration of a command, by default `elf fit`, with these words."""
    command = [] if words[0] == "test" else ["fit"]
    config = dict(yaml.safe_load(printed(*command, *words)))
    module = "DistillationModule" if config["name"].endswith("_distill") else "ELFModule"
    assert config["model"]["class_path"].endswith(f".{module}")
    assert config["data"]["class_path"].endswith(".ELFDataModule")
    return config | {part: config[part]["init_args"] for part in ("data", "model")}


def parse_data(file: Path, *more: str) -> tuple[ArgumentParser, Any]:
    """A parser for the DataModule, and its result for the file and other arguments."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(ELFDataModule, "data")
    return parser, parser.parse_args(["--data", str(file), *more])


@pytest.mark.parametrize("file", RUNS, ids=lambda file: file.stem)
def test_every_run_is_valid(file: Path) -> None:
    config = print_config("--config", file.stem)
    assert config["name"] == file.stem
    assert any(callback["class_path"].endswith("EMA") for callback in config["trainer"]["callbacks"])


@pytest.mark.parametrize("file", DATA, ids=lambda file: file.stem)
def test_every_data_set_fits_a_run(file: Path) -> None:
    data = print_config("--config", "elf_105m", "--data", str(file))["data"]
    source = yaml.safe_load(file.read_text())["source"]
    assert data["source"]["init_args"]["path"] == source["init_args"]["path"]
    assert data["encoder"]["init_args"]["name_or_path"] == "google-t5/t5-small"
    assert (data["latent_mean"], data["latent_std"], data["global_batch_size"]) == (0.0, 0.2, 512)


@pytest.mark.parametrize("corpus", ["openwebtext", "openwebtext_raw"])
@pytest.mark.parametrize(("name", "batch_size"), [("elf_105m", 64), ("elf_342m", 32), ("elf_652m", 16)])
def test_a_corpus_keeps_the_batch_size_per_device(name: str, batch_size: int, corpus: str) -> None:
    assert print_config("--config", name)["data"]["batch_size"] == batch_size
    config = print_config("--config", name, "--data", f"data/{corpus}")
    assert config["data"]["batch_size"] == batch_size


@pytest.mark.parametrize(
    ("name", "lengths"),
    [("openwebtext", (1024, None)), ("wmt14_de_en", (128, 64)), ("xsum", (1088, 1024))],
)
def test_lengths_are_the_papers(name: str, lengths: tuple[int, int | None]) -> None:
    _, config = parse_data(CONF / "data" / f"{name}.yaml")
    assert (config.data.max_length, config.data.max_condition_length) == lengths
    paired = lengths[1] is not None
    assert config.data.pad_mode == ("eos" if paired else "pad")
    assert config.data.label_drop_probability == (0.1 if paired else 0.0)


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_recipe(name: str) -> None:
    preset, epochs, steps, gamma = PAPER[name]
    file = CONF / f"{name}.yaml"
    assert len(file.read_text().splitlines()) < 80
    config = print_config("--config", name)
    data, model, trainer = config["data"], config["model"], config["trainer"]
    assert (data["max_length"], data["global_batch_size"], data["pad_mode"]) == (1024, 512, "pad")
    assert data["encoder"]["init_args"]["name_or_path"] == "google-t5/t5-small"
    assert (data["latent_mean"], data["latent_std"]) == (0.0, 0.2)
    assert data["global_batch_size"] % (8 * data["batch_size"]) == 0
    assert model["network"] == vars(PRESETS[preset])
    assert model["objective"]["init_args"] == {
        "path": {"noise_scale": 2.0, "t_eps": 0.05},
        "times": {"mean": -1.5, "std": 0.8},
        "guidance": {"minimum": 0.5, "maximum": 5.0},
        "decode_probability": 0.2,
        "self_cond_probability": 0.5,
        "decode_mix": {"mean": 0.8, "std": 0.8},
        "decode_noise_scale": 5.0,
        "mixing": "rows",
    }
    assert model["optimizer"]["class_path"].endswith("MuonSettings")
    assert model["optimizer"]["init_args"]["base_learning_rate"] == 0.001
    assert model["schedule"] == {"warmup_steps": 0, "warmup_epochs": 0.5, "decay": "constant"}
    sampling = model["sampling"]
    assert (sampling["solver"], sampling["steps"], sampling["gamma"]) == ("sde", steps, gamma)
    assert sampling["guidance"] == 3.0
    assert (trainer["precision"], trainer["max_epochs"], trainer["devices"]) == ("bf16-mixed", epochs, "auto")
    assert trainer["gradient_clip_val"] == 1.0
    average = trainer["callbacks"][0]["init_args"]
    assert (average["decay"], average["warmup"]) == (0.9999, False)


def test_the_distillation_is_the_papers() -> None:
    ours, theirs = (print_config("--config", name) for name in ("elf_105m_distill", "elf_105m"))
    assert ours["model"]["schedule"] == {"warmup_steps": 0, "warmup_epochs": 0.1, "decay": "constant"}
    assert (ours["trainer"]["max_epochs"], ours["data"]["label_drop_probability"]) == (1, 0.0)
    for part in ("network", "objective", "optimizer"):
        assert ours["model"][part] == theirs["model"][part]
    assert ours["data"] == theirs["data"]
    assert ours["trainer"] | {"max_epochs": 5} == theirs["trainer"]


def test_gpt2_tokens_change_the_data_alone() -> None:
    ours, theirs = (print_config("--config", name) for name in ("elf_105m_gpt2", "elf_105m"))
    assert (ours["model"], ours["trainer"]) == (theirs["model"], theirs["trainer"])
    data = ours["data"]
    assert (data["max_length"], data["packing"], data["pad_mode"]) == (1024, "bos_eos", "eos")
    assert (data["latent_mean"], data["latent_std"]) == (-0.009134, 0.925011)
    assert data["global_batch_size"] == 512 and data["restrict_vocabulary"] is False
    encoder = data["encoder"]["init_args"]
    assert (encoder["name_or_path"], encoder["layer"]) == ("openai-community/gpt2-large", None)
    assert (encoder["start_token"], encoder["unit_rms"]) == (None, False)
    source = yaml.safe_load((CONF / "data" / "openwebtext_raw.yaml").read_text())["source"]["init_args"]
    assert {name: data["source"]["init_args"][name] for name in source} == source


@pytest.mark.parametrize("name", [file.stem for file in RUNS if file.stem.startswith("elf_")])
def test_the_papers_runs_take_every_device_as_ddp_is_meant(name: str) -> None:
    """By its short name, which stands for the settings that `tests/training/test_ddp.py` sees in force."""
    trainer = print_config("--config", name)["trainer"]
    assert (trainer["accelerator"], trainer["devices"], trainer["strategy"]) == ("auto", "auto", "ddp")


@pytest.mark.parametrize("file", EVALUATIONS, ids=lambda file: file.stem)
def test_every_evaluation_is_valid_on_top_of_a_run(file: Path) -> None:
    given = yaml.safe_load(file.read_text())["model"]["evaluation"]
    known = file.stem.removeprefix("published_").removesuffix("_pytorch").removesuffix("_seeds")
    run = PUBLISHED[known][0] if file.stem.startswith("published_") else "elf_105m"
    found = print_config("test", "--config", run, "--config", f"eval/{file.stem}")
    settings = found["model"]["evaluation"]
    assert {name: settings[name] for name in ("num_samples", "seeds", "sweep") if name in given} == {
        name: given[name] for name in ("num_samples", "seeds", "sweep") if name in given
    }
    assert settings["published"] is None or "published" in given


@pytest.mark.parametrize("variant", ["", "_pytorch"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_figure_is_pinned_and_named(name: str, variant: str) -> None:
    run, figures = PUBLISHED[name]
    own = print_config("--config", run)
    found = print_config("test", "--config", run, "--config", f"eval/published_{name}{variant}")
    settings, published = found["model"]["evaluation"], found["model"]["evaluation"]["published"]
    (sampling,) = settings["settings"]
    changed = {"steps": 64, "gamma": 1.0} if name == "105m_64_steps" else {}
    assert sampling == own["model"]["sampling"] | changed | {"grid_per_batch": True}
    assert settings["seeds"] == [42]
    assert published["num_samples"] == settings["num_samples"]
    if "gen_ppl" in figures:
        scoring = settings["scoring_model"]
        assert (scoring["name"], scoring["context_length"]) == ("gpt2-large", 1024)
        assert scoring["dtype"] == ("bfloat16" if variant else "float32")
        assert (settings["num_samples"], published["metrics"]) == (1000, figures)
        assert found["data"] == own["data"]
        return
    pairs = {"wmt14_de_en": 3003, "xsum": 11334}
    num, split = (1000, "validation") if variant else (pairs[name], "test")
    assert settings["num_samples"] == num
    assert settings["cut_answers"] is True
    source = own["data"]["source"]["init_args"]
    assert found["data"]["source"]["init_args"] == source | {"validation_split": split, "train_split": split}
    assert published["metrics"].keys() == figures.keys()
    assert (published["metrics"] == figures) is (variant == "")


@pytest.mark.parametrize("file", DATA, ids=lambda file: file.stem)
def test_without_the_hub_the_encoder_is_one_clear_line(file: Path) -> None:
    parser, config = parse_data(file)
    with pytest.raises(UserError, match=r"'google-t5/t5-small' could not be read.*local folder") as error:
        parser.instantiate(config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", DATA, ids=lambda file: file.stem)
def test_without_the_hub_the_source_is_one_clear_line(file: Path, tiny_t5: str, tmp_path: Path) -> None:
    parser, config = parse_data(
        file, "--data.encoder.init_args.name_or_path", tiny_t5, "--data.cache_dir", str(tmp_path)
    )
    data = parser.instantiate(config).data
    path = config.data.source.init_args.path
    # The official pre-tokenised sequences are expected in a folder here, not on the Hub.
    expected = (
        "there is no such folder; give one that exists, or a Hub id"
        if path.startswith("./")
        else "could not be reached.*point source.path at the local copy"
    )
    with pytest.raises(UserError, match=expected) as error:
        data.prepare_data()
    assert path in str(error.value)
    assert "\n" not in str(error.value)
