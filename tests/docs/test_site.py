"""The pages of the site are in its navigation, and the errors it explains are those of the package."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
EXPLAINED = re.findall(
    r"^#### `(.+)`$", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE
)


class SiteLoader(yaml.SafeLoader):
    """Reads `mkdocs.yml`, with the default of each `!ENV`."""


SiteLoader.add_constructor("!ENV", lambda loader, node: loader.construct_sequence(node)[-1])
SITE = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), SiteLoader)


def nav_pages(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for part in entry.values() if isinstance(entry, dict) else entry:
            yield from nav_pages(part)


def message(node: ast.expr) -> str:
    """A message as written in the code, with `…` for its values."""
    if isinstance(node, ast.JoinedStr):
        return "".join(message(part) for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else "…"


def error_messages() -> Iterator[str]:
    for file in (ROOT / "src").rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        constants = [one for one in tree.body if isinstance(one, ast.Assign)]
        named = {ast.unparse(one.targets[0]): one.value for one in constants}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "UserError" and node.args:
                names = [one.id for one in ast.walk(node.args[0]) if isinstance(one, ast.Name)]
                for given in [node.args[0], *(named[name] for name in names if name in named)]:
                    yield message(given).replace("`", "")


def test_every_page_is_in_the_navigation_once_and_every_entry_is_a_page() -> None:
    assert sorted(nav_pages(SITE["nav"])) == PAGES


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_has_a_file(page: str) -> None:
    links = re.findall(r"\]\((?!\w+:|#)([^)#]+)", (DOCS / page).read_text(encoding="utf-8"))
    assert not [link for link in links if not (DOCS / page).parent.joinpath(link).exists()]


def test_every_public_package_is_in_the_reference() -> None:
    marked = set(
        re.findall(r"`(elf_lightning\.[\w.]+)`", (DOCS / "reference.md").read_text(encoding="utf-8"))
    )
    stubs = (ROOT / "src" / "elf_lightning").rglob("*/__init__.pyi")
    assert {".".join(stub.parent.relative_to(ROOT / "src").parts) for stub in stubs} <= marked


def test_there_are_errors_to_explain() -> None:
    assert len(EXPLAINED) >= 10


@pytest.mark.parametrize("explained", EXPLAINED)
def test_every_explained_error_is_one_of_the_package(explained: str) -> None:
    start = explained.removesuffix("…").strip()
    assert any(found.startswith(start) for found in error_messages())
