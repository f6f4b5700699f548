"""What the README shows runs as it is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from elf_lightning.network import NetworkConfig

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.filterwarnings("ignore")
def test_the_snippet_goes_from_texts_to_a_text(
    tiny_t5: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a small size: everything else is as the reader sees it."""
    monkeypatch.chdir(tmp_path)
    Path("my_texts").mkdir()
    for number in range(3):
        Path("my_texts", f"{number}.txt").write_text("in the beginning god created heaven and earth\n" * 20)
    (snippet,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    small = {
        "google-t5/t5-small": tiny_t5,
        "max_length=128": "max_length=8",
        "max_steps=10_000": "max_steps=2, accelerator='cpu'",
        "for_data(data)": "for_data(data, network=SMALL)",
    }
    for written, smaller in small.items():
        assert snippet.count(written) == 1
        snippet = snippet.replace(written, smaller)
    texts: list[str] = []
    names = {"SMALL": NetworkConfig(hidden_size=16, depth=2, num_heads=2), "print": texts.append}
    exec(snippet, names)
    assert [type(text) for text in texts] == [str]
    assert list(Path("runs/mine").rglob("*.ckpt"))
