"""The real run, as short as can be, and what it reads and leaves behind."""

from __future__ import annotations

import json
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import torch
from benchmarks.gpu.corpus import read_corpus
from benchmarks.gpu.pack_inputs import main as pack_main
from benchmarks.gpu.pack_inputs import pack_package
from benchmarks.gpu.run import main
from benchmarks.gpu.steps import Average
from benchmarks.gpu.texts import TextMetrics
from safetensors.torch import load

from benchmarks.gpu import require
from elf_lightning import ELF

CPU = torch.device("cpu")


def run(monkeypatch: pytest.MonkeyPatch, inputs: Path, output: Path, *more: str) -> dict[str, object]:
    words = ["--device", "cpu", "--network", "16", "1", "2", "--rows", "8", "--steps", "3", "--num", "2"]
    places = ["--inputs", str(inputs), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["run", *words, *places, *more])
    main()
    return dict(json.loads((output / "run.json").read_text()))


def test_a_run_leaves_a_model_that_samples(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = run(monkeypatch, inputs, tmp_path)
    assert results["training"]["steps"] == 3
    assert results["left_out"] == []
    assert results["validation"]["decode_loss"] > 0
    lines = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert all(line.keys() == {"setting", "seed", "index", "text"} for line in lines)
    assert sorted(Counter(line["setting"] for line in lines).values()) == [2] * 5
    assert results["texts"]["validation text"]["known_words"] <= 1
    model = ELF.from_pretrained(tmp_path / "model")
    assert len(model.generate(num=2, steps=2)) == 2


def test_large_weights_come_in_parts(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, inputs, tmp_path, "--part-mib", "0.01", "--parts", "9")
    parts = sorted((tmp_path / "model").glob("model.safetensors.*"))
    assert len(parts) > 1
    assert not (tmp_path / "model" / "model.safetensors").exists()
    weights = load(b"".join(part.read_bytes() for part in parts))
    assert {value.dtype for value in weights.values()} == {torch.float16}


def test_weights_that_are_too_large_are_told(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = run(monkeypatch, inputs, tmp_path, "--part-mib", "0.001", "--parts", "1")
    assert not (tmp_path / "model").exists()
    (left_out,) = results["left_out"]
    assert left_out.startswith("weights")


def test_the_corpus_is_embedded_and_shuffled(inputs: Path) -> None:
    corpus = read_corpus(inputs, CPU)
    assert corpus.train.latents.shape == (40, 8, 16)
    assert corpus.train.input_ids.max() <= 20
    assert (corpus.validation.input_ids == 1).any(), "pieces outside the vocabulary are unknown"
    batches = [batch.input_ids for batch in islice(corpus.batches(16, seed=0), 4)]
    again = [batch.input_ids for batch in islice(corpus.batches(16, seed=0), 4)]
    assert all(torch.equal(one, other) for one, other in zip(batches, again, strict=True))
    assert len(torch.cat(batches[:2]).unique(dim=0)) == 32, "an epoch has each row once"
    assert not torch.equal(batches[0], batches[2])
    assert corpus.texts(torch.tensor([[3, 2, 0]]))[0] == corpus.tokenizer.decode([4])


def test_missing_inputs_are_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="pack_inputs"):
        read_corpus(tmp_path, CPU)


def test_missing_packages_are_told() -> None:
    with pytest.raises(SystemExit, match=r"^not installed: a-package, b-package; .*README"):
        require({"torch": "torch", "no_module_b": "b-package", "no_module_a": "a-package"})


def test_pure_packages_are_carried_and_compiled_ones_refused(tmp_path: Path) -> None:
    pack_package("muon-optimizer", tmp_path)
    assert (tmp_path / "muon.py").is_file()
    with pytest.raises(SystemExit, match="numpy cannot be carried along"):
        pack_package("numpy", tmp_path)


def test_packages_alone_are_packed_and_what_is_too_much_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["pack_inputs", "--output", str(tmp_path / "packed"), "--packages-only"]
    monkeypatch.setattr(sys, "argv", words)
    pack_main()
    assert [path.name for path in (tmp_path / "packed").iterdir()] == ["site"]
    monkeypatch.setattr(sys, "argv", [*words, "--limit-mib", "0.001"])
    with pytest.raises(SystemExit, match="--limit-mib"):
        pack_main()


def test_the_average_warms_up_and_is_shown() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    average = Average(layer, decay=0.9)
    for value in (1.0, 4.0):
        torch.nn.init.constant_(layer.weight, value)
        average.update()
    average.show()
    assert layer.weight.item() == pytest.approx(2 / 11 * 1 + 9 / 11 * 4)


def test_copied_text_is_seen() -> None:
    words = [f"w{number}" for number in range(30)]
    measure = TextMetrics([" ".join(words)])
    copied, made_up = measure([" ".join(words[5:20])]), measure([" ".join(f"x{n}" for n in range(20))])
    assert (copied["copied"], copied["known_words"]) == (1, 1)
    assert (made_up["copied"], made_up["known_words"]) == (0, 0)
