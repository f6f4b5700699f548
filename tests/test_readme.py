"""What the README shows runs as it is written."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

from elf_lightning.cli import main

README = Path(__file__).parents[1] / "README.md"


SNIPPETS: list[str] = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
LINES = README.read_text(encoding="utf-8").splitlines()


def shown(snippet: str, changes: dict[str, str], **names: object) -> list[object]:
    """What a snippet prints, with `changes` that make it small."""
    for written, smaller in changes.items():
        assert snippet.count(written) == 1
        snippet = snippet.replace(written, smaller)
    printed: list[object] = []
    exec(snippet, {"print": lambda *values, **options: printed.extend(values), **names})
    return printed


def test_the_snippet_goes_from_texts_to_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer steps: everything else is as the reader sees it."""
    monkeypatch.chdir(tmp_path)
    Path("docs").mkdir()
    Path("docs", "sampling.md").symlink_to(README.parent / "docs" / "sampling.md")
    (snippet,) = SNIPPETS
    texts = shown(snippet, {"max_steps=200": "max_steps=2, accelerator='cpu'", "num=2": "num=2, steps=2"})
    assert [type(text) for text in texts] == [str, str]
    assert list(Path("runs/mine").rglob("*.ckpt"))


@pytest.mark.skipif(find_spec("elf_books") is None, reason="comes with the repository, not with the package")
def test_the_first_command_fills_in(capsys: pytest.CaptureFixture[str]) -> None:
    (words,) = [line.partition(" #")[0] for line in LINES if line.startswith("elf sample")]
    assert main([*shlex.split(words)[1:], "--checkpoint", "elf_books", "--steps", "2"]) == 0
    texts = capsys.readouterr().out.splitlines()
    assert len(texts) == 3
    assert all(text.startswith("the old man") and text.endswith("the sea.") for text in texts)


def test_the_second_command_is_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    (words,) = [line.partition(" #")[0] for line in LINES if line.startswith("elf fit")]
    with pytest.raises(SystemExit) as ended:
        main([*shlex.split(words)[1:], "--print_config"])
    assert ended.value.code == 0
    assert "path: my_texts" in capsys.readouterr().out


def test_the_readme_fits_on_a_screen_and_its_links_lead_somewhere() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 80
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert links and not [link for link in links if not (README.parent / link).exists()]
