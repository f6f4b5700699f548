"""What `mkdocs build` changes in the pages: links out of `docs/`, and the lists of public names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)]+)\)")
NAMES = re.compile(r"^<!-- public names of (\S+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, *, config: dict[str, Any], **_: object) -> str:
    """Point links to files of the repository at its URL, if that is known; list the public names."""
    repository = (config["extra"]["repository"] or "").rstrip("/")

    def link(found: re.Match[str]) -> str:
        text, path = found.groups()
        return f"[{text}]({repository}/blob/main/{path})" if repository else text

    return NAMES.sub(lambda found: public_names(found[1]), OUTSIDE.sub(link, markdown))


def public_names(package: str) -> str:
    """A mkdocstrings block for each name in the package's `__init__.pyi`."""
    stub = ROOT / "src" / package.replace(".", "/") / "__init__.pyi"
    names = re.findall(r"^from \S+ import \w+ as (\w+)$", stub.read_text(encoding="utf-8"), re.MULTILINE)
    return "\n\n".join(f"::: {package}.{name}" for name in names)
