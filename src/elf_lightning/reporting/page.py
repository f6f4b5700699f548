"""What all pages share: one head, colours for the light and the dark, and details in pairs."""

from __future__ import annotations

import html
from collections.abc import Mapping
from importlib.resources import files
from string import Template


def page(name: str, title: str, details: Mapping[str, str], **parts: str | int) -> str:
    """A whole HTML page: the head of all pages, then `name`.html with its own style and its places filled.

    Args:
        name: of the page's file beside this one.
        title: of the page, as text.
        details: what it follows from, by name, as text.
        parts: what to put in its places, as HTML.
    """
    folder = files("elf_lightning.reporting")
    whole = "".join(folder.joinpath(f"{part}.html").read_text(encoding="utf-8") for part in ("head", name))
    told = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
        for name, value in details.items()
    )
    return Template(whole).substitute(title=html.escape(title), details=told, **parts)
