"""The corpus of the books model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "models" / "books_corpus.py"
BOOK = """---
title: A Book
---

# A Book

## Chapter I

It was a *dark* and **stormy** night, and the rain fell _in_ [torrents](http://example.com)[^1],
except at occasional intervals.

> "Who goes there?" cried the sentry, _raising_ his lantern high.

Too short.

* * *

![A picture of a sentry with his lantern in the rain](sentry.png)

[^1]: A footnote that is longer than forty characters by far.
"""
TEXT = """It was a dark and stormy night, and the rain fell in torrents, except at occasional intervals.
"Who goes there?" cried the sentry, raising his lantern high.
"""


def test_paragraphs_are_kept_without_markup(tmp_path: Path) -> None:
    book = tmp_path / "books" / "An Author" / "A Book.md"
    book.parent.mkdir(parents=True)
    book.write_text(BOOK, encoding="utf-8")
    (tmp_path / "books" / "README.md").write_text("A repository of books in the public domain, as text.\n")
    command = [sys.executable, str(SCRIPT), str(tmp_path / "books"), str(tmp_path / "texts")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == f"1 books in {tmp_path / 'texts'}\n"
    assert (tmp_path / "texts" / "An_Author_A_Book.txt").read_text(encoding="utf-8") == TEXT


def test_a_folder_without_books_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(tmp_path), str(tmp_path / "texts")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "has no Markdown files" in done.stderr.splitlines()[-1]
