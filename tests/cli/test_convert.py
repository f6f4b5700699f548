"""`elf convert` as a user runs it."""

from __future__ import annotations

import re
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import BertTokenizer

from elf_lightning import ELF
from elf_lightning.checkpoints import ModelBundle, load_model, to_official
from elf_lightning.cli import main
from elf_lightning.errors import UserError

Complaint = Callable[..., str]


@pytest.fixture
def complaint(capsys: pytest.CaptureFixture[str]) -> Complaint:
    """The one line that the command prints before it exits with status 2."""

    def run(*options: str | Path) -> str:
        capsys.readouterr()
        assert main(["convert", *map(str, options)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("elf convert: ")
        return line

    return run


def test_hub_folder_generates_the_same(
    run_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "made" / "model"
    assert main(["convert", run_folder, str(output), "--format", "hub"]) == 0
    assert str(output) in capsys.readouterr().err
    assert {"config.json", "model.safetensors", "README.md"} <= {path.name for path in output.iterdir()}
    expected = ELF.from_pretrained(run_folder, device="cpu").generate(num=3)
    assert ELF.from_pretrained(output, device="cpu").generate(num=3) == expected


def test_official_file_has_the_official_weights(run_folder: str, tmp_path: Path, bundle: ModelBundle) -> None:
    output = tmp_path / "made" / "checkpoint_10"
    assert main(["convert", run_folder, str(output), "--format", "official"]) == 0
    content = torch.load(output, weights_only=True)
    expected = to_official(bundle.weights)
    for entry in ("params", "ema_params1"):
        assert content[entry].keys() == expected.keys()
        assert all(content[entry][name].equal(value) for name, value in expected.items())
    assert content["step"] == 10


def test_official_file_in_a_folder_is_named_by_its_step(run_folder: str, tmp_path: Path) -> None:
    (tmp_path / "official").mkdir()
    assert main(["convert", run_folder, str(tmp_path / "official"), "--format", "official"]) == 0
    assert load_model(tmp_path / "official").config.step == 10
    assert [path.name for path in (tmp_path / "official").iterdir()] == ["checkpoint_10"]


def test_a_round_trip_keeps_every_bit(run_folder: str, tmp_path: Path, bundle: ModelBundle) -> None:
    first, hub, second = tmp_path / "checkpoint_1", tmp_path / "hub", tmp_path / "checkpoint_2"
    assert main(["convert", run_folder, str(hub), "--format", "hub"]) == 0
    assert main(["convert", str(hub), str(first), "--format", "official"]) == 0
    assert main(["convert", str(first), str(second), "--format", "official"]) == 0
    weights = load_model(second).weights
    assert weights.keys() == bundle.weights.keys()
    assert all(weights[name].equal(value) for name, value in bundle.weights.items())


def test_last_weights_on_request(run_folder: str, tmp_path: Path, bundle: ModelBundle) -> None:
    output = tmp_path / "last"
    assert main(["convert", run_folder, str(output), "--format", "official", "--last-weights"]) == 0
    name = "latent_in.down.weight"
    assert load_model(output).weights[name].equal(bundle.weights[name].flip(0))


def test_measured_repetition_is_kept(run_folder: str, tmp_path: Path) -> None:
    output = tmp_path / "hub"
    words = ["convert", run_folder, str(output), "--format", "hub", "--measure-repetition", "20"]
    assert main(words) == 0
    model = ELF.from_pretrained(run_folder)
    expected = model.measure_repetition(20)
    kept = load_model(output).repetition_direction
    assert kept is not None
    assert kept.equal(expected)


def test_words_are_listed_for_sampling(run_folder: str, tmp_path: Path) -> None:
    model = load_model(run_folder)
    assert model.config.codec is not None
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *(f"w{number}" for number in range(model.config.vocab_size - 6)), "##s"]
    BertTokenizer({piece: number for number, piece in enumerate(pieces)}).save_pretrained(tmp_path / "bert")
    codec = replace(model.config.codec, tokenizer=str(tmp_path / "bert"), kept_ids=None, unknown_id=None)
    ELF(replace(model, config=replace(model.config, codec=codec))).save_pretrained(tmp_path / "model")
    (tmp_path / "texts.txt").write_text("w3s w3s w3s\nw4s w5 w5 w5\n")
    words = ["convert", str(tmp_path / "model"), str(tmp_path / "out"), "--format", "hub"]
    assert main([*words, "--words", str(tmp_path / "texts.txt")]) == 0
    assert (tmp_path / "out" / "words.txt").read_text() == "w3s\n"
    kept = ELF.from_pretrained(tmp_path / "out", device="cpu")
    assert kept.codec.words == ["w3s"]
    for text in kept.generate(8, steps=2, known_words=True):
        assert {word for word in text.split() if word.endswith("s")} <= {"w3s"}
    # The list goes along into the next folder.
    assert main(["convert", str(tmp_path / "out"), str(tmp_path / "again"), "--format", "hub"]) == 0
    assert (tmp_path / "again" / "words.txt").read_text() == "w3s\n"


def test_words_need_word_pieces_and_the_hub_format(
    run_folder: str, tmp_path: Path, complaint: Complaint
) -> None:
    (tmp_path / "texts.txt").write_text("in the beginning")
    more = ["--words", tmp_path / "texts.txt"]
    assert "--format hub" in complaint(run_folder, tmp_path / "a", "--format", "official", *more)
    assert "has no word pieces" in complaint(run_folder, tmp_path / "b", "--format", "hub", *more)
    with pytest.raises(UserError, match="has no list of words"):
        ELF.from_pretrained(run_folder, device="cpu").generate(1, known_words=True)


def test_int8_is_small_and_generates(run_folder: str, tmp_path: Path, bundle: ModelBundle) -> None:
    sizes = {}
    for dtype in ("float32", "int8"):
        words = ["convert", run_folder, str(tmp_path / dtype), "--format", "hub", "--dtype", dtype]
        assert main(words) == 0
        sizes[dtype] = (tmp_path / dtype / "model.safetensors").stat().st_size
    assert sizes["int8"] < 0.5 * sizes["float32"]  # a tiny model is mostly names and vectors
    texts = ELF.from_pretrained(tmp_path / "int8", device="cpu").generate(num=4)
    assert any(texts)
    # From int8 back to floating point: what the int8 model computes with.
    assert (
        main(
            [
                "convert",
                str(tmp_path / "int8"),
                str(tmp_path / "back"),
                "--format",
                "hub",
                "--dtype",
                "float32",
            ]
        )
        == 0
    )
    assert ELF.from_pretrained(tmp_path / "back", device="cpu").generate(num=4) == texts


def test_failure_leaves_no_output(complaint: Complaint, save_run: Callable[..., str], tmp_path: Path) -> None:
    run = save_run("no-tokenizer", tokenizer=str(tmp_path / "gone"))
    assert "gone" in complaint(run, tmp_path / "hub", "--format", "hub")
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize("form", ["hub", "official"])
def test_a_full_disk_is_one_line_and_leaves_nothing_in_the_way(
    complaint: Complaint, run_folder: str, tmp_path: Path, form: str
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        line = complaint(run_folder, tmp_path / "model", "--format", form)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert re.search(
        r"model(/.+)?' cannot be written: File too large \(0\.[23] MB needed, .* MB free\)", line
    )
    assert not [*tmp_path.glob("model*")]
    assert main(["convert", run_folder, str(tmp_path / "model"), "--format", form]) == 0


@pytest.mark.parametrize("form", ["hub", "official"])
def test_unwritable_output_is_reported(
    complaint: Complaint, run_folder: str, tmp_path: Path, form: str
) -> None:
    (tmp_path / "file").touch()
    line = complaint(run_folder, tmp_path / "file" / "model", "--format", form)
    assert "model' cannot be written: " in line


def test_nothing_is_overwritten(complaint: Complaint, run_folder: str, tmp_path: Path) -> None:
    existing = tmp_path / "existing"
    existing.write_text("precious")
    for form in ("official", "hub"):
        assert "already exists" in complaint(run_folder, existing, "--format", form)
    assert existing.read_text() == "precious"
    assert "already exists" in complaint(run_folder, run_folder, "--format", "hub")
    folder = tmp_path / "folder"
    folder.mkdir()
    assert main(["convert", run_folder, str(folder), "--format", "official"]) == 0
    assert "checkpoint_10' already exists" in complaint(run_folder, folder, "--format", "official")


def test_mistakes(complaint: Complaint, run_folder: str, tmp_path: Path, bundle: ModelBundle) -> None:
    out = tmp_path / "out"
    assert "arguments are required: --format" in complaint(run_folder, out)
    assert "--format: invalid choice: 'onnx'" in complaint(run_folder, out, "--format", "onnx")
    assert "cannot store it" in complaint(run_folder, out, "--format=official", "--measure-repetition")
    assert "--dtype int8: the official format cannot store it" in complaint(
        run_folder, out, "--format=official", "--dtype=int8"
    )
    assert "only for published checkpoints" in complaint(run_folder, out, "--format=hub", "--max-length", "9")
    assert "does not exist" in complaint(tmp_path / "no.ckpt", out, "--format", "hub")
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes(b"not a checkpoint")
    assert "damaged" in complaint(damaged, out, "--format", "official")
    assert not out.exists()
    weights = {f"network.{name}": value for name, value in bundle.weights.items()}
    config = replace(bundle.config, codec=None).to_dict()
    torch.save({"state_dict": weights, "elf": config}, tmp_path / "no-codec.ckpt")
    assert "does not say which tokenizer" in complaint(tmp_path / "no-codec.ckpt", out, "--format", "hub")
