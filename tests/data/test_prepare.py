"""Text -> token ids on disk -> examples."""

from __future__ import annotations

import errno
import json
import logging
import multiprocessing
import os
import pickle
import resource
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict
from transformers import ByT5Tokenizer, PreTrainedTokenizerBase

from elf_lightning.data import ELFDataModule, JsonLines, Source, TextFiles
from elf_lightning.data.cache import written_once
from elf_lightning.data.packing import packed
from elf_lightning.data.prepare import Preparation, tokenizer_fingerprint
from elf_lightning.data.sources import IDS
from elf_lightning.data.tokenize import Tokenize
from elf_lightning.encoders import read_tokenizer
from elf_lightning.errors import UserError

FORK = multiprocessing.get_context("fork")
EOS = 3  # [SEP] of the tiny BERT


class Texts(Source):
    """Texts given in memory."""

    def __init__(self, texts: list[str], **columns: list[Any]) -> None:
        self.columns = columns or {"text": texts}

    def load(self, scratch: Path) -> DatasetDict:
        dataset = Dataset.from_dict(self.columns)
        return DatasetDict(train=dataset, validation=dataset)

    def identity(self) -> dict[str, Any]:
        return self.columns


DOCUMENTS = [
    "in the beginning god created the heaven and the earth",
    "",
    "now the earth was without form",
    "and darkness was upon the face of the deep",
]


@pytest.fixture
def prepared(tmp_path: Path, tiny_bert: str) -> Callable[..., Preparation]:
    """Prepares documents with the tiny BERT's tokenizer."""

    def prepare(source: Source | None = None, **overrides: Any) -> Preparation:
        settings: dict[str, Any] = {
            "source": source or Texts(DOCUMENTS),
            "tokenizer": read_tokenizer(tiny_bert),
            "eos_id": EOS,
            "packing": "pack",
            "max_length": 4,
            "cache_dir": tmp_path / "cache",
        } | overrides
        own = {name: settings.pop(name) for name in ("source", "cache_dir", "num_proc") if name in settings}
        preparation = Preparation(tokenize=Tokenize(**settings), **own)
        preparation.run()
        return preparation

    return prepare


def ids_of(preparation: Preparation, split: str = "train") -> list[list[int]]:
    rows = preparation.examples(split)
    return [row.input_ids.tolist() for row in rows.read(range(len(rows)))]


def tokenised(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    return [[*tokenizer(text, add_special_tokens=False)["input_ids"], EOS] for text in texts if text]


class TestPacking:
    def test_pack_loses_nothing_but_the_last_partial_row(self, prepared: Callable[..., Preparation]) -> None:
        preparation = prepared()
        stream = list(chain(*tokenised(preparation.tokenize.tokenizer, DOCUMENTS)))
        rows = ids_of(preparation)
        assert {len(row) for row in rows} == {4}
        assert list(chain(*rows)) == stream[: len(stream) // 4 * 4]

    def test_pack_crosses_the_chunks_on_disk(self, prepared: Callable[..., Preparation]) -> None:
        many = [f"{DOCUMENTS[number % 4]} {DOCUMENTS[number % 3]}".strip() for number in range(2500)]
        preparation = prepared(Texts(many), max_length=7)
        assert len(preparation._open("train").data.column(IDS).chunks) > 1
        stream = list(chain(*tokenised(preparation.tokenize.tokenizer, many)))
        assert list(chain(*ids_of(preparation))) == stream[: len(stream) // 7 * 7]

    def test_packed_rows_of_any_length_share_what_is_on_disk(
        self, prepared: Callable[..., Preparation]
    ) -> None:
        assert prepared(max_length=4).folder == prepared(max_length=8).folder
        assert len(ids_of(prepared(max_length=8))[0]) == 8

    def test_truncate_keeps_beginnings(
        self, prepared: Callable[..., Preparation], caplog: pytest.LogCaptureFixture
    ) -> None:
        preparation = prepared(packing="truncate", max_length=8)
        whole = tokenised(preparation.tokenize.tokenizer, DOCUMENTS)
        assert ids_of(preparation) == [document[:8] for document in whole]
        assert "2 of 3 train sequences were truncated to data.max_length 8" in caplog.text

    def test_wrap_loses_nothing(
        self, prepared: Callable[..., Preparation], caplog: pytest.LogCaptureFixture
    ) -> None:
        preparation = prepared(packing="wrap", max_length=4)
        whole = tokenised(preparation.tokenize.tokenizer, DOCUMENTS)
        rows = ids_of(preparation)
        assert max(map(len, rows)) == 4
        assert list(chain(*rows)) == list(chain(*whole))
        assert not caplog.text

    def test_ids_that_come_tokenised_stay_as_they_are(self, prepared: Callable[..., Preparation]) -> None:
        rows = [[5, 6, 7], [8], [9, 10, 11, 12, 13]]
        assert ids_of(prepared(Texts([], input_ids=rows), packing="truncate", max_length=4)) == [
            [5, 6, 7],
            [8],
            [9, 10, 11, 12],
        ]
        assert ids_of(prepared(Texts([], input_ids=rows))) == [[5, 6, 7, 8], [9, 10, 11, 12]]

    def test_processes_give_the_same_rows(
        self,
        prepared: Callable[..., Preparation],
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        alone = ids_of(prepared())
        monkeypatch.setattr(logging.getLogger("datasets"), "propagate", True)
        assert ids_of(prepared(cache_dir=tmp_path / "other", num_proc=9)) == alone
        assert "num_proc" not in caplog.text, "there are fewer documents than processes"


class TestParagraphs:
    TEXTS = ("god said\n\nlet there be light\n", "and there was light\nday", "", "night and day\n  \ndeep")
    LINES = ("god said", "let there be light", "and there was light", "day", "night and day", "deep")

    def test_lines_fill_sequences_across_documents(self, prepared: Callable[..., Preparation]) -> None:
        preparation = prepared(Texts(list(self.TEXTS)), packing="paragraphs", max_length=9)
        tokenizer = preparation.tokenize.tokenizer
        lines = [tokenizer(line, add_special_tokens=False)["input_ids"] for line in self.LINES]
        expected = list(packed(lines, "paragraphs", 9, EOS))
        assert ids_of(preparation) == expected
        assert EOS in chain(*expected)
        assert preparation.examples("train").lengths().tolist() == list(map(len, expected))

    def test_they_cross_the_chunks_on_disk(self, prepared: Callable[..., Preparation]) -> None:
        texts = [f"{self.LINES[number % 6]}\n{self.LINES[number % 5]}" for number in range(1500)]
        preparation = prepared(Texts(texts), packing="paragraphs", max_length=7)
        assert len(preparation._open("train").data.column(IDS).chunks) > 1
        tokenizer = preparation.tokenize.tokenizer
        lines = [
            tokenizer(line, add_special_tokens=False)["input_ids"] for line in "\n".join(texts).split("\n")
        ]
        assert ids_of(preparation) == list(packed(lines, "paragraphs", 7, EOS))

    def test_worker_processes_read_the_same(self, prepared: Callable[..., Preparation]) -> None:
        examples = prepared(Texts(list(self.TEXTS)), packing="paragraphs", max_length=9).examples("train")
        copy = pickle.loads(pickle.dumps(examples))
        assert [one.input_ids.tolist() for one in copy.read([1, 0])] == [
            one.input_ids.tolist() for one in examples.read([1, 0])
        ]

    def test_sequences_of_any_length_share_what_is_on_disk(
        self, prepared: Callable[..., Preparation]
    ) -> None:
        short, long = (
            prepared(Texts(list(self.TEXTS)), packing="paragraphs", max_length=length) for length in (6, 9)
        )
        assert short.folder == long.folder
        assert len(ids_of(short)) > len(ids_of(long))

    def test_ids_have_no_paragraphs(self, prepared: Callable[..., Preparation]) -> None:
        with pytest.raises(UserError, match=r"data.packing paragraphs: the source gives token ids"):
            prepared(Texts([], input_ids=[[5, 6]]), packing="paragraphs")


class TestSentences:
    TEXTS = (
        "God said. Let there be light.\nThe day",
        "",
        " \n ",
        "And there was light. Night and day.\n \n",
    )
    SENTENCES = ("God said.", "Let there be light.", "The day", "And there was light.", "Night and day.")
    ENDS = (False, False, True, False, True)

    def test_sequences_begin_with_sentences_and_texts_end_with_eos(
        self, prepared: Callable[..., Preparation]
    ) -> None:
        preparation = prepared(Texts(list(self.TEXTS)), packing="sentences", max_length=6)
        tokenizer = preparation.tokenize.tokenizer
        ids = [
            tokenizer(sentence, add_special_tokens=False)["input_ids"] + [EOS] * ends
            for sentence, ends in zip(self.SENTENCES, self.ENDS, strict=True)
        ]
        expected = list(packed(ids, "sentences", 6, EOS))
        assert ids_of(preparation) == expected
        assert len(expected) > 2
        assert EOS in chain(*expected)
        assert preparation.examples("train").lengths().tolist() == [6] * len(expected)

    def test_ids_have_no_sentences(self, prepared: Callable[..., Preparation]) -> None:
        with pytest.raises(UserError, match=r"data.packing sentences: the source gives token ids"):
            prepared(Texts([], input_ids=[[5, 6]]), packing="sentences")


def test_unused_tokens_fill_a_restricted_vocabulary_up_to_a_multiple_of_8(
    prepared: Callable[..., Preparation],
) -> None:
    preparation = prepared(Texts(["god said", "light"]), packing="truncate", max_length=8)
    occurring = set(preparation.tokenize.tokenizer("god said light", add_special_tokens=False)["input_ids"])
    kept = preparation.kept_ids({EOS})
    assert kept == sorted(set(kept))
    assert len(kept) == 8
    assert occurring | {EOS} < set(kept)
    # A vocabulary of a run from before it was filled up.
    (stored,) = preparation.cache_dir.glob("vocabulary-*/kept.json")
    stored.with_name("digests.json").unlink()  # older versions wrote none
    stored.write_text(json.dumps(sorted(occurring)))
    assert preparation.kept_ids({EOS}) == sorted(occurring | {EOS})


class TestSummary:
    def test_it_tells_length_padding_and_unknown_tokens(self, prepared: Callable[..., Preparation]) -> None:
        source = Texts(["god said zebra", "light"])
        preparation = prepared(source, packing="truncate", max_length=8)
        tokenizer = preparation.tokenize.tokenizer
        god, said, unknown = tokenizer("god said zebra", add_special_tokens=False)["input_ids"]
        assert unknown == tokenizer.unk_token_id
        summary = preparation.summary()["train"]
        assert (summary.examples, summary.mean_tokens, summary.padding) == (2, 3.0, 1 - 3 / 8)
        assert summary.unknown == pytest.approx(1 / 6)
        restricted = preparation.summary(kept_ids=[god, said, unknown, EOS])["train"]
        assert restricted.unknown == pytest.approx(2 / 6)


class TestPairs:
    @pytest.mark.parametrize(
        ("condition", "expected"),
        [([5, 6], [5, 6, EOS]), ([5, 6, 7, 8], [5, 6, EOS]), ([5, EOS], [5, EOS]), ([], [EOS])],
    )
    def test_conditions_end_with_eos_where_asked(
        self, prepared: Callable[..., Preparation], condition: list[int], expected: list[int]
    ) -> None:
        source = Texts([], condition_input_ids=[condition, [9]], input_ids=[[7, EOS], [8, EOS]])
        settings = {"max_length": 6, "max_condition_length": 3}
        (example,) = prepared(source, condition_eos=True, **settings).examples("train").read([0])
        assert example.condition_input_ids.tolist() == expected
        (example,) = prepared(source, **settings).examples("train").read([0])
        assert example.condition_input_ids.tolist() == condition[:3]

    def test_condition_and_target_are_cut_to_their_limits(
        self, prepared: Callable[..., Preparation], caplog: pytest.LogCaptureFixture
    ) -> None:
        source = Texts(
            [], condition_text=["now the earth", "god"], text=["light", "and god said let there be"]
        )
        preparation = prepared(source, max_length=6, max_condition_length=2)
        tokenizer = preparation.tokenize.tokenizer
        rows = preparation.examples("train").read([0, 1])
        assert [tokenizer.decode(row.condition_input_ids) for row in rows] == ["now the", "god"]
        assert rows[0].input_ids.tolist() == tokenised(tokenizer, ["light"])[0]
        assert tokenizer.decode(rows[1].input_ids) == "and god said let there"
        assert (
            "2 of 2 train sequences were truncated to data.max_length 6, data.max_condition_length 2"
            in caplog.text
        )

    def test_a_condition_that_loses_a_token_to_eos_counts_as_truncated(
        self, prepared: Callable[..., Preparation], caplog: pytest.LogCaptureFixture
    ) -> None:
        source = Texts([], condition_input_ids=[[5, 6, 7], [5, 6, EOS], [5, 6]], input_ids=[[7]] * 3)
        prepared(source, condition_eos=True, max_length=6, max_condition_length=3)
        assert "1 of 3 train sequences were truncated" in caplog.text

    def test_lengths_count_condition_and_target(self, prepared: Callable[..., Preparation]) -> None:
        pairs = [("now the earth", "light"), ("god", "and god said let there be"), ("", "day")] * 700
        conditions, targets = map(list, zip(*pairs, strict=True))
        source = Texts([], condition_text=conditions, text=targets)
        preparation = prepared(source, max_length=6, max_condition_length=2)
        assert len(preparation._open("train").data.column(IDS).chunks) > 1
        for _ in range(2):
            lengths = preparation.examples("train").lengths()
            assert lengths.tolist() == [4, 6, 2] * 700

    @pytest.mark.parametrize("empty", ["", None])
    def test_pairs_with_an_empty_target_are_left_out_with_a_warning(
        self, prepared: Callable[..., Preparation], caplog: pytest.LogCaptureFixture, empty: str | None
    ) -> None:
        columns = {"condition_text": ["god", "light", "day"], "text": ["now", empty, "the earth"]}
        whole = {name: column[::2] for name, column in columns.items()}
        left = prepared(Texts([], **columns), max_condition_length=2)
        assert "1 of 3 train pairs have an empty target and are left out" in caplog.text
        pairs = left.examples("train").read(range(2))
        expected = prepared(Texts([], **whole), max_condition_length=2).examples("train").read(range(2))
        for one, other in zip(pairs, expected, strict=True):
            assert one.input_ids.tolist() == other.input_ids.tolist()
            assert one.condition_input_ids is not None and other.condition_input_ids is not None
            assert one.condition_input_ids.tolist() == other.condition_input_ids.tolist()

    def test_pairs_need_a_condition_length(self, prepared: Callable[..., Preparation]) -> None:
        with pytest.raises(UserError, match=r"pairs of condition and target; set data.max_condition_length"):
            prepared(Texts([], condition_text=["god"], text=["now"]))

    def test_documents_have_no_condition(self, prepared: Callable[..., Preparation]) -> None:
        with pytest.raises(
            UserError, match="the source gives no conditions; name them with condition_column"
        ):
            prepared(max_condition_length=2)


class TestTexts:
    def test_names_of_special_tokens_are_ordinary_text(self, prepared: Callable[..., Preparation]) -> None:
        """As special tokens, they would end texts and be padding."""
        preparation = prepared(Texts(["god [SEP] light [PAD] day [CLS]"]), packing="truncate", max_length=20)
        (ids,) = ids_of(preparation)
        tokenizer = preparation.tokenize.tokenizer
        assert not {tokenizer.pad_token_id, tokenizer.cls_token_id} & {*ids}
        assert ids.count(EOS) == 1
        assert ids[-1] == EOS

    @pytest.mark.parametrize("packing", ["pack", "paragraphs", "sentences", "wrap"])
    def test_long_documents_are_tokenised_in_parts_with_the_same_ids(
        self,
        prepared: Callable[..., Preparation],
        monkeypatch: pytest.MonkeyPatch,
        packing: str,
        tmp_path: Path,
    ) -> None:
        texts = Texts([*DOCUMENTS, " ".join(DOCUMENTS * 5), "\n".join(DOCUMENTS * 3)])
        whole = ids_of(prepared(texts, packing=packing))
        sizes: list[int] = []
        call = PreTrainedTokenizerBase.__call__

        def noted(self: Any, pieces: list[str], **options: Any) -> Any:
            sizes.append(sum(map(len, pieces)))
            return call(self, pieces, **options)

        monkeypatch.setattr(PreTrainedTokenizerBase, "__call__", noted)
        monkeypatch.setattr("elf_lightning.data.tokenize.CHARACTERS", 60)
        cut = ids_of(prepared(texts, packing=packing, cache_dir=tmp_path / "other"))
        assert max(sizes) <= 60
        assert cut == whole

    def test_fewer_long_documents_are_in_memory_at_a_time(
        self, prepared: Callable[..., Preparation], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        counts: list[int] = []
        call = Tokenize.__call__

        def noted(self: Tokenize, columns: Any, *rest: Any, **options: Any) -> Any:
            counts.append(len(columns["text"]))
            return call(self, columns, *rest, **options)

        monkeypatch.setattr(Tokenize, "__call__", noted)
        monkeypatch.setattr("elf_lightning.data.sources.base.BYTES_AT_ONCE", 4_000)
        prepared(Texts(["god " * 400] * 20))
        assert max(counts) == 2
        counts.clear()
        prepared(Texts(["god"] * 1500))
        assert max(counts) > 200

    def test_mostly_unknown_tokens_are_a_warning(
        self, prepared: Callable[..., Preparation], caplog: pytest.LogCaptureFixture
    ) -> None:
        prepared(Texts(["god light day night evening"] * 4))
        assert "unknown" not in caplog.text
        prepared(Texts(["это другой язык god"] * 4))
        assert "60% of the tokens of the train split are unknown to the tokenizer '" in caplog.text
        assert "choose an encoder for this language and script" in caplog.text


def test_a_full_disk_is_one_line(prepared: Callable[..., Preparation], tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(
            UserError, match=r"data.cache_dir '.+cache' cannot be written: File too large \(.+ MB free"
        ):
            prepared(Texts(DOCUMENTS * 200))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert ids_of(prepared(Texts(DOCUMENTS * 200)))


def test_a_full_disk_elsewhere_is_not_taken_for_that_of_the_cache(tmp_path: Path) -> None:
    full = OSError(errno.EDQUOT, "Disk quota exceeded")
    with pytest.raises(UserError, match=r"^source 'hub' could not"), written_once(tmp_path / "cache"):
        raise UserError("source 'hub' could not be read: Disk quota exceeded") from full


class TestCache:
    def test_the_key_follows_what_decides_the_rows(
        self, prepared: Callable[..., Preparation], tiny_t5: str
    ) -> None:
        keys = [
            prepared().key,
            prepared(Texts(DOCUMENTS[:1])).key,
            prepared(packing="wrap").key,
            prepared(packing="wrap", max_length=5).key,
            prepared(tokenizer=read_tokenizer(tiny_t5), eos_id=1).key,
        ]
        assert len(set(keys)) == 5
        assert prepared().key == keys[0]

    def test_a_second_preparation_reads_the_first(
        self, prepared: Callable[..., Preparation], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = ids_of(prepared())

        def refuse(*_: object) -> None:
            raise AssertionError("the source was read again")

        monkeypatch.setattr(Texts, "load", refuse)
        assert ids_of(prepared()) == first

    def test_a_preparation_that_fails_leaves_nothing(
        self, prepared: Callable[..., Preparation], tmp_path: Path
    ) -> None:
        with pytest.raises(UserError):
            prepared(Texts([], input_ids=[[-1]]))
        assert all(path.suffix == ".lock" for path in (tmp_path / "cache").iterdir())

    def test_a_killed_preparation_is_redone(
        self, prepared: Callable[..., Preparation], tmp_path: Path
    ) -> None:
        class Deadly(Texts):
            def load(self, scratch: Path) -> DatasetDict:
                (scratch / "half.arrow").write_text("half of it")
                os.kill(os.getpid(), signal.SIGKILL)
                raise AssertionError

        killed = FORK.Process(target=prepared, args=(Deadly(DOCUMENTS),))
        killed.start()
        killed.join()
        assert killed.exitcode == -signal.SIGKILL
        (unfinished,) = (tmp_path / "cache").glob("*.incomplete")
        assert (unfinished / "scratch" / "half.arrow").exists()
        preparation = prepared(Texts(DOCUMENTS))
        assert len(ids_of(preparation)) == 7
        assert preparation.splits() == ["train", "validation"]
        assert not unfinished.exists()

    def test_processes_that_prepare_at_once_wait_for_one(
        self, prepared: Callable[..., Preparation], tmp_path: Path
    ) -> None:
        class Slow(Texts):
            def load(self, scratch: Path) -> DatasetDict:
                with (tmp_path / "loads").open("a") as file:
                    file.write("once\n")
                time.sleep(0.3)
                return super().load(scratch)

        both = [FORK.Process(target=prepared, args=(Slow(DOCUMENTS),)) for _ in range(3)]
        for process in both:
            process.start()
        for process in both:
            process.join()
        assert [process.exitcode for process in both] == [0, 0, 0]
        assert (tmp_path / "loads").read_text() == "once\n"
        assert len(ids_of(prepared(Texts(DOCUMENTS)))) == 7

    def test_an_interrupted_preparation_is_redone(
        self, prepared: Callable[..., Preparation], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:

            def interrupt(self: Preparation, dataset: Any, folder: Path) -> None:
                folder.mkdir()
                (folder / "tokens.arrow").write_text("half of it")
                raise KeyboardInterrupt

            patch.setattr(Preparation, "_tokenize", interrupt)
            with pytest.raises(KeyboardInterrupt):
                prepared()
        assert len(ids_of(prepared())) == 7

    def test_only_one_of_many_writes(self, tmp_path: Path) -> None:
        def write(number: int) -> bool:
            with written_once(tmp_path / "once") as folder:
                if folder is not None:
                    (folder / "value").write_text(str(number))
                return folder is not None

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(write, range(8))) == 1
        assert {file.name for file in (tmp_path / "once").iterdir()} == {"value", "digests.json"}

    def test_a_cache_folder_that_is_a_file(
        self, prepared: Callable[..., Preparation], tmp_path: Path
    ) -> None:
        (tmp_path / "cache").write_text("")
        with pytest.raises(UserError, match=r"data.cache_dir .* is not writable"):
            prepared()

    def test_temporary_files_go(self, prepared: Callable[..., Preparation], text_file: Path) -> None:
        preparation = prepared(TextFiles(str(text_file), document="line"))
        left = {path.name for path in preparation.cache_dir.iterdir()}
        assert left <= {preparation.folder.name, f"{preparation.folder.name}.lock"}


class TestBadRows:
    @pytest.mark.parametrize("row", [[5, 10_000], [-1, 5]])
    def test_ids_outside_the_vocabulary(self, prepared: Callable[..., Preparation], row: list[int]) -> None:
        with pytest.raises(UserError, match=r"example 1 of the train split .* has ids from .* has 0 to"):
            prepared(Texts([], input_ids=[[5], row]))

    @pytest.mark.parametrize("row", [[5.5], ["5"], [[5], [6, 7]], [5, None], 5])
    def test_ids_that_are_no_whole_numbers(self, prepared: Callable[..., Preparation], row: Any) -> None:
        with pytest.raises(UserError, match=r"example 0 of the train split .* they must be whole numbers"):
            prepared(Texts([], input_ids=[row]))

    @pytest.mark.parametrize("value", [5, ["a", "b"]])
    def test_a_text_that_is_none(self, prepared: Callable[..., Preparation], value: Any) -> None:
        with pytest.raises(UserError, match="instead of a text; choose another text_column"):
            prepared(Texts([value]))

    def test_missing_values_are_empty_documents(self, prepared: Callable[..., Preparation]) -> None:
        some = [DOCUMENTS[0], None, DOCUMENTS[2]]
        expected = ids_of(prepared(Texts(DOCUMENTS[:3])))
        assert ids_of(prepared(Texts(some))) == expected
        rows = [[5, 6, 7, 8], None, [9, 10, 11, 12]]
        assert ids_of(prepared(Texts([], input_ids=rows))) == [rows[0], rows[2]]

    def test_nothing_but_empty_documents(self, prepared: Callable[..., Preparation]) -> None:
        with pytest.raises(UserError, match="the train split has no text in it"):
            prepared(Texts(["", ""]))

    def test_less_than_one_row(self, prepared: Callable[..., Preparation]) -> None:
        preparation = prepared(Texts(["god said"]), max_length=100)
        with pytest.raises(UserError, match=r"data.max_length 100: the train split has only 3 tokens"):
            preparation.examples("train")


def test_jsonl_pairs_go_all_the_way(make_data: Callable[..., ELFDataModule], tmp_path: Path) -> None:
    rows = [{"input": "now the earth", "output": f"god said {word}"} for word in ("light", "day", "night")]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = make_data(source=JsonLines(str(tmp_path / "a.jsonl")), max_condition_length=3, pad_mode="eos")
    data.prepare_data()
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert batch.condition_mask.sum(1).tolist() == [3, 3]
    assert batch.latents.shape == (2, 8, 16)
    assert batch.input_ids[0, -1] == data.eos_id


def test_tokenizers_in_python_have_a_fingerprint_too() -> None:
    prints = [tokenizer_fingerprint(ByT5Tokenizer(extra_ids=number)) for number in (0, 0, 5)]
    assert prints[0] == prints[1] != prints[2]
