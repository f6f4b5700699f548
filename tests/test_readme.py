"""What the README shows runs as it is written."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from elf_lightning.network import NetworkConfig

README = Path(__file__).parents[1] / "README.md"


SNIPPETS: list[str] = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def shown(snippet: str, changes: dict[str, str], **names: object) -> list[object]:
    """What a snippet prints, with `changes` that make it small."""
    for written, smaller in changes.items():
        assert snippet.count(written) == 1
        snippet = snippet.replace(written, smaller)
    printed: list[object] = []
    exec(snippet, {"print": lambda *values, **options: printed.extend(values), **names})
    return printed


@pytest.mark.skipif(find_spec("elf_books") is None, reason="comes with the repository, not with the package")
def test_the_first_snippet_samples_continues_and_fills_in() -> None:
    changes = {
        "num=2, seed=0": "num=2, seed=0, steps=2",
        'night"]': 'night"], steps=2',
        "num=3": "num=3, steps=2",
    }
    first, second, continued, *filled = shown(SNIPPETS[0], changes)
    assert first != second
    assert str(continued).startswith("it was a dark and stormy night")
    assert len(filled) == 3
    assert all(str(text).startswith("the old man") and str(text).endswith("the sea.") for text in filled)


@pytest.mark.filterwarnings("ignore")
def test_the_second_snippet_goes_from_texts_to_a_text(
    tiny_t5: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a small size: everything else is as the reader sees it."""
    monkeypatch.chdir(tmp_path)
    Path("my_texts").mkdir()
    for number in range(3):
        Path("my_texts", f"{number}.txt").write_text("in the beginning god created heaven and earth\n" * 20)
    small = {
        "google-t5/t5-small": tiny_t5,
        "max_length=128": "max_length=8",
        "max_steps=10_000": "max_steps=2, accelerator='cpu'",
        "for_data(data)": "for_data(data, network=SMALL)",
    }
    texts = shown(SNIPPETS[1], small, SMALL=NetworkConfig(hidden_size=16, depth=2, num_heads=2))
    assert [type(text) for text in texts] == [str]
    assert list(Path("runs/mine").rglob("*.ckpt"))
