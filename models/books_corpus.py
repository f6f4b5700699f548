"""Make the corpus of the books model from the public repository `mlschmitt/classic-books-markdown`.

    git clone https://github.com/mlschmitt/classic-books-markdown
    python models/books_corpus.py classic-books-markdown books

Each book becomes a text file with one paragraph per line. Front matter, headings, markup, and paragraphs of
fewer than 40 characters are left out.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

MIN_CHARACTERS = 40
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
NO_TEXT = re.compile(r"^(#|```|!\[|\[\^[^\]]*\]:|[-*_=\s]*$)")
"""Blocks that are not paragraphs: headings, code, pictures, footnotes and rules."""
MARKUP = (
    (re.compile(r"<[^>]+>|\[\^[^\]]*\]|!\[[^\]]*\]\([^)]*\)"), ""),
    (re.compile(r"\[([^\]]*)\]\([^)]*\)"), r"\1"),
    (re.compile(r"(?m)^\s*(>\s?)+"), ""),
    (re.compile(r"(\*{1,3}|(?<!\w)_{1,3}(?=\w)|(?<=[\w.,;:!?])_{1,3}(?!\w))"), ""),
    (re.compile(r"\\([^\w\s])"), r"\1"),
)
"""Markup, and what takes its place."""


def paragraphs(markdown: str) -> Iterator[str]:
    """The paragraphs of a book as plain text, each on one line."""
    for block in re.split(r"\n\s*\n", FRONT_MATTER.sub("", markdown)):
        if NO_TEXT.match(block.strip()):
            continue
        for pattern, replacement in MARKUP:
            block = pattern.sub(replacement, block)
        paragraph = " ".join(block.split())
        if len(paragraph) >= MIN_CHARACTERS:
            yield paragraph


def main() -> None:
    """Write one text file per Markdown file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("repository", type=Path, help="folder of the cloned repository")
    parser.add_argument("output", type=Path, help="folder for the text files")
    options = parser.parse_args()
    books = [path for path in sorted(options.repository.rglob("*.md")) if path.name != "README.md"]
    if not books:
        parser.error(f"{options.repository} has no Markdown files; give the folder of the cloned repository")
    options.output.mkdir(parents=True, exist_ok=True)
    written = 0
    for book in books:
        text = "\n".join(paragraphs(book.read_text(encoding="utf-8-sig")))
        name = re.sub(r"\W+", "_", str(book.relative_to(options.repository).with_suffix(""))).strip("_")
        if text:
            (options.output / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
            written += 1
    print(f"{written} books in {options.output}")


if __name__ == "__main__":
    main()
