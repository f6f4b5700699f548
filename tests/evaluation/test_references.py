from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import BertTokenizer

from elf_lightning.data import ELFDataModule, TextFiles
from elf_lightning.encoders import PretrainedEncoder
from elf_lightning.evaluation.references import ReferenceTexts, shuffled
from elf_lightning.evaluation.results_file import model_identity


def test_texts_are_the_validation_documents(small: Any, data: ELFDataModule) -> None:
    data.prepare_data()
    validation = ReferenceTexts(data)
    assert len(validation) == 10
    assert validation.targets(range(10)) == small.sentences(40)[30:]
    assert validation.conditions(range(10)) == []


def test_a_text_ends_at_its_first_eos(small: Any, tmp_path: Path, tiny_t5: str) -> None:
    data = small.make_data(tmp_path, tiny_t5)
    packing = replace(data.preparation.tokenize, packing="pack")
    data.preparation = replace(data.preparation, tokenize=packing, cache_dir=tmp_path / "packed")
    data.preparation.run()
    # Documents of 11 words and EOS in sequences of 12: each sequence contains an end.
    first = ReferenceTexts(data).targets([0])
    assert first == small.sentences(40)[30:31]


def test_word_pieces_are_written_as_in_print(tmp_path: Path, tiny_bert: str) -> None:
    folder = tmp_path / "bert"
    shutil.copytree(tiny_bert, folder)
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "go", "##ing", "we", "'", "ll", "re", "-", "enter", ".", ","]
    tokenizer = BertTokenizer({word: number for number, word in enumerate(words)})
    tokenizer.save_pretrained(folder)
    file = tmp_path / "texts.txt"
    file.write_text("going, going.\nwe'll re-enter.\n")
    source = TextFiles(str(file), document="line", validation_fraction=0.5)
    data = ELFDataModule(
        source, PretrainedEncoder(str(folder), layer=1), max_length=4, cache_dir=str(tmp_path)
    )
    data.prepare_data()
    assert ReferenceTexts(data).targets([0]) == ["we'll re"]


def test_sets_are_disjoint_and_always_the_same(data: ELFDataModule) -> None:
    data.prepare_data()
    validation = ReferenceTexts(data)
    sets = validation.drawn(groups=3, size=3)
    assert [len(texts) for texts in sets] == [3, 3, 3]
    assert len({text for texts in sets for text in texts}) == 9
    assert sets == validation.drawn(groups=3, size=3)
    assert [len(texts) for texts in validation.drawn(groups=3, size=4)] == [4, 4]
    assert [len(texts) for texts in validation.drawn(groups=3, size=64)] == [10]


def test_shuffled_texts_have_the_same_words() -> None:
    texts = ["let there be light and there was light", "one", ""]
    mixed = shuffled(texts)
    assert mixed != texts
    assert [sorted(text.split()) for text in mixed] == [sorted(text.split()) for text in texts]
    assert shuffled(texts) == mixed


def test_the_identity_depends_on_every_weight_and_setting() -> None:
    weights = {"a": torch.zeros(3), "b": torch.ones((), dtype=torch.bfloat16)}
    known = model_identity(weights, {"length": 8})
    assert known == model_identity(dict(reversed(weights.items())), {"length": 8})
    others = [
        model_identity({**weights, "a": torch.tensor([0.0, 0.0, 1e-30])}, {"length": 8}),
        model_identity({**weights, "c": torch.zeros(1)}, {"length": 8}),
        model_identity(weights, {"length": 9}),
    ]
    assert len({known, *others}) == 4
