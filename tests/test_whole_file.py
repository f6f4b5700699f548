"""Files are complete or absent, and a full disk is one line."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from elf_lightning.errors import UserError
from elf_lightning.whole_file import (
    GrowingFile,
    remove_unfinished,
    whole_file,
    whole_folder,
    write_whole,
)


@pytest.fixture
def full() -> Iterator[None]:
    """Nothing beyond 1,000 bytes can be written to a file, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_changes_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    write_whole(path, "old")
    path.chmod(0o640)
    with whole_file(path) as file:
        file.write_text("new")
        assert (file.parent, path.read_text()) == (path.parent, "old")  # on the same file system
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o640
    with pytest.raises(KeyboardInterrupt), whole_file(path) as file:
        file.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "new"
    assert [*path.parent.iterdir()] == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link, target = tmp_path / "page.html", tmp_path / "disk" / "page.html"
    link.symlink_to(target)
    write_whole(link, "one")
    write_whole(link, "two")
    assert link.is_symlink()
    assert target.read_text() == "two"
    with whole_file(link, follow=False) as file:
        file.write_text("three")
    assert not link.is_symlink()
    assert (link.read_text(), target.read_text()) == ("three", "two")


def test_what_is_no_file_is_written_directly(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(pipe, "text")
    with GrowingFile(pipe) as file:
        file.append([{"a": 1}])
    assert os.read(reader, 100) == b'text{"a": 1}\n'
    assert pipe.is_fifo()
    os.close(reader)


def test_a_full_disk_is_one_line_with_the_space(tmp_path: Path, full: None) -> None:
    path = tmp_path / "page.html"
    told = r"page.html' cannot be written: File too large \(0.3 MB needed, [\d,.]+ MB free\); make room"
    with pytest.raises(UserError, match=told):
        write_whole(path, "x" * 250_000)
    weights = {"a": torch.zeros(10_000)}
    for write in (lambda file: save_file(weights, file), lambda file: torch.save(weights, file.open("wb"))):
        with (
            pytest.raises(UserError, match="cannot be written: File too large"),
            whole_file(path, 40_000) as file,
        ):
            write(file)
    told = r"model' cannot be written: .+0\.1 MB needed"
    with pytest.raises(UserError, match=told), whole_folder(tmp_path / "model", 40_000) as folder:
        save_file(weights, folder / "model.safetensors")
    assert not [*tmp_path.iterdir()]


def test_what_cannot_be_written_for_other_reasons_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written: Not a directory; choose another folder"):
        write_whole(tmp_path / "file" / "page.html", "")
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "page.html"):
        print(1 / 0)


def test_a_folder_appears_when_it_is_complete_and_keeps_other_files(tmp_path: Path) -> None:
    model = tmp_path / "model"
    (tmp_path / "model.incomplete" / "left").mkdir(parents=True)  # by a process that was killed
    with pytest.raises(ZeroDivisionError), whole_folder(model) as folder:
        (folder / "a").write_text("half")
        print(1 / 0)
    assert not [*tmp_path.iterdir()]
    for text in ("one", "two"):
        with whole_folder(model) as folder:
            (folder / "inside").mkdir()
            (folder / "inside" / "a").write_text(text)
        assert (model / "inside" / "a").read_text() == text
        (model / "notes").write_text("mine")
    assert sorted(path.name for path in model.rglob("*")) == ["a", "inside", "notes"]
    assert [*tmp_path.iterdir()] == [model]


def test_lines_before_an_interruption_are_kept_beside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "texts.jsonl"
    write_whole(path, "earlier")
    with pytest.raises(KeyboardInterrupt), GrowingFile(path) as file:
        file.append([{"text": "é"}])
        file.append([{"text": "b"}])
        raise KeyboardInterrupt
    assert path.read_text() == "earlier"
    kept = path.with_name("texts.jsonl.incomplete")
    assert kept.read_text(encoding="utf-8") == '{"text": "é"}\n{"text": "b"}\n'
    assert capsys.readouterr().err == f"the first 2 texts are in '{kept}'\n"
    with GrowingFile(path) as file:
        file.append([{"text": "c"}])
    assert path.read_text() == '{"text": "c"}\n'
    assert [*tmp_path.iterdir()] == [path]
    with pytest.raises(KeyboardInterrupt), GrowingFile(path):
        raise KeyboardInterrupt
    assert [*tmp_path.iterdir()] == [path]


def test_lines_that_do_not_fit_say_where_the_others_are(tmp_path: Path, full: None) -> None:
    file = GrowingFile(tmp_path / "texts.jsonl")
    file.append([{"text": "a"}])
    with pytest.raises(UserError, match=r"MB free\); make room .+; the 1 texts before are in '.+incomplete'"):
        file.append([{"text": "x" * 2000}])


def test_what_a_killed_process_has_left_goes(tmp_path: Path) -> None:
    (tmp_path / ".file.77.incomplete").touch()
    (tmp_path / "kept.incomplete").touch()
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.incomplete"]
