"""Nothing that is printed can control the terminal."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from pathlib import Path

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from elf_lightning.cli import main
from elf_lightning.terminal import Terminal, print_messages_safely, printable, quiet_lightning

HOSTILE = "a\x1b]0;title\x07b\x9bc\u202ed\u2066e\rf\udcff"
SHOWN = r"a\x1b]0;title\x07b\x9bc\u202ed\u2066e\rf\udcff"
DANGEROUS = {"\x1b", "\x07", "\x9b", "\r", "\u202e", "\u2066", "\udcff"}


def test_control_characters_are_shown_and_other_text_is_not_changed() -> None:
    assert printable(HOSTILE) == SHOWN
    text = "naïve\tΩ 漢字 \u200fמשל\u200e 🙂\n"
    assert printable(text) == text


def test_rich_output_has_styles_but_no_controls_of_its_texts() -> None:
    screen = io.StringIO()
    console = Terminal(file=screen, force_terminal=True, color_system="standard", width=200)
    table = Table("name")
    table.add_row(Text(HOSTILE, "red"))
    console.print(table, Panel(Text(HOSTILE), title=Text(HOSTILE)), HOSTILE)
    shown = screen.getvalue()
    assert "\x1b[31m" in shown, "the style"
    assert not DANGEROUS - {"\x1b"} & {*shown}
    assert "\x1b]" not in shown


def test_nothing_in_a_text_is_markup() -> None:
    screen = io.StringIO()
    table = Table("name")
    table.add_row("[link=https://example.org]a[/link] [/b] :smile:")
    Terminal(file=screen, force_terminal=True, color_system=None, width=80).print(table, "[red]b")
    assert "[link=https://example.org]a[/link] [/b] :smile:" in screen.getvalue()
    assert "[red]b" in screen.getvalue()
    assert "\x1b]8" not in screen.getvalue()


def test_logs_warnings_and_mistakes_are_printable(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    print_messages_safely()
    logging.getLogger("other").warning("saw %s", HOSTILE)
    assert caplog.messages == [f"saw {SHOWN}"]
    assert SHOWN in warnings.formatwarning(UserWarning(HOSTILE), UserWarning, "file.py", 1)
    assert main(["eval-text", f"{HOSTILE}.txt"]) == 2
    told = capsys.readouterr().err
    assert r"a\x1b]0;title\x07b" in told
    assert not DANGEROUS & {*told}


@pytest.mark.parametrize("ends", [True, False])
def test_a_closed_pipe_ends_the_process_or_only_the_printing(
    monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        console = Terminal()
        console.ends_with_pipe = ends
        if ends:
            with pytest.raises(SystemExit) as ended:
                console.print("text")
            assert ended.value.code == 141
        else:
            console.print("text")
            console.print("more")


def test_saving_a_checkpoint_says_nothing_to_the_user(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    quiet_lightning()
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path)
    trainer.strategy.connect(BoringModel())
    with caplog.at_level(logging.INFO):
        trainer.save_checkpoint(tmp_path / "model.ckpt")
    assert "weights_only" not in caplog.text
