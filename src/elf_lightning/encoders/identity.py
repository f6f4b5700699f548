"""From the plain values that a checkpoint holds of its encoder back to the encoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from elf_lightning.encoders.base import Encoder
from elf_lightning.encoders.pretrained import PretrainedEncoder as PretrainedEncoder  # so that it is known
from elf_lightning.encoders.token_table import TokenTableEncoder as TokenTableEncoder
from elf_lightning.errors import UserError


def encoder_from_identity(identity: Mapping[str, Any]) -> Encoder:
    """The encoder whose `identity()` this is; its weights are read on first use.

    Only classes that are imported already are found: a checkpoint never makes Python import anything.

    Args:
        identity: `class`, the name of an `Encoder`, and its constructor's arguments.

    Raises:
        UserError: if there is no such class, or it does not take these arguments.
    """
    arguments = dict(identity)
    name = arguments.pop("class", None)
    known = {cls.__name__: cls for cls in _subclasses(Encoder)}  # type: ignore[type-abstract]
    if name not in known:
        raise UserError(
            f"the model's encoder is of class {name!r}, and only {', '.join(sorted(known))} are imported; "
            "import the module that defines it first"
        )
    try:
        return known[name](**arguments)
    except TypeError as error:
        raise UserError(
            f"the model's encoder is stored with {', '.join(arguments)}, which does not fit this version of "
            f"{name} ({error}); use the version that wrote the checkpoint"
        ) from error


def _subclasses(cls: type[Encoder]) -> Iterator[type[Encoder]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
