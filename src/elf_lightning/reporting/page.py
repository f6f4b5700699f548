"""HTML pages and pictures from the templates beside this file."""

from pathlib import Path
from typing import Any


def render(template: str, **values: Any) -> str:
    """The filled template; text in `values` is escaped, `markupsafe.Markup` is not."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    return environment.get_template(template).render(values)
