"""Requests for texts: unconditional, from a prompt, a condition, or a template with blanks."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from elf_lightning.codec import TextCodec
from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from elf_lightning.data import ELFDataModule


@dataclass(frozen=True)
class Request:
    """One text to generate, in the tokenizer's ids.

    Attributes:
        index: determines the random draws, together with the seed.
        condition: the clean prefix of a text-to-text model.
        fixed: given tokens of the text, by position.
    """

    index: int
    condition: Sequence[int] = ()
    fixed: Mapping[int, int] = field(default_factory=dict)


def requests_from_user(
    codec: TextCodec,
    num: int | str,
    prompts: str | Sequence[str] | None = None,
    infill: str | Sequence[str] | None = None,
) -> list[Request]:
    """Requests in the order of prompts or templates, `num` for each; arguments as of `ELF.generate`."""
    if isinstance(num, str):  # the prompt that callers of other libraries would give
        raise UserError(
            f"num is {num!r:.40}; it is the number of texts: for a prompt, give prompts=[{num!r:.40}]"
        )
    if num < 1:
        raise UserError(f"num is {num}; it must be at least 1")
    if prompts is not None and infill is not None:
        raise UserError("prompts and infill cannot be combined; give one of them")
    if (texts := infill if prompts is None else prompts) is not None:
        make = _from_template if prompts is None else _from_prompt
        texts = [texts] if isinstance(texts, str) else texts
        for text in texts:
            if not text.isascii() and text != text.encode(errors="replace").decode():
                raise UserError(f"{_short(text)} has bytes that are not UTF-8; convert it, or leave them out")
        given = [make(codec, text) for text in texts]
    elif codec.max_condition_length is not None:
        raise UserError("this is a text-to-text model, which needs prompts; give prompts")
    else:
        given = [Request(0)]
    repeated = [request for request in given for _ in range(num)]
    return [replace(request, index=index) for index, request in enumerate(repeated)]


def requests_from_data(data: "ELFDataModule | None", indices: Sequence[int]) -> list[Request]:
    """Requests with these indices; in text-to-text tasks, for the validation conditions that they have."""
    if data is None or data.max_condition_length is None:
        return [Request(index) for index in indices]
    examples = data.preparation.examples("validation")
    indices = [index for index in indices if index < len(examples)]
    conditions = (example.condition_input_ids for example in examples.read(indices))
    return [
        Request(index, [] if ids is None else ids[: data.max_condition_length].tolist())
        for index, ids in zip(indices, conditions, strict=True)
    ]


def _from_prompt(codec: TextCodec, text: str) -> Request:
    """A request with a condition (text-to-text), or with fixed tokens at the start."""
    ids = codec.encode(text)
    conditional, end = codec.max_condition_length is not None, codec.tokenizer_id(codec.eos_id)
    limit = min(codec.max_length - 1, codec.max_condition_length or codec.max_length) - codec.condition_eos
    limit -= codec.bos_eos
    if not 1 <= len(ids) <= limit:
        raise UserError(f"prompt {_short(text)} has {len(ids)} tokens; give 1 to {limit} for this model")
    if conditional:
        return Request(0, condition=[*ids, *[end] * codec.condition_eos])
    _check_known(codec, text, ids)
    return Request(0, fixed=dict(enumerate([end] * codec.bos_eos + ids)))


def _from_template(codec: TextCodec, text: str) -> Request:
    """A request with the tokens of `text` fixed, and EOS after it; each `_` leaves one position open."""
    needs = "infill needs a model"
    if codec.max_condition_length is not None:
        raise UserError(f"{needs} of unconditional text, but this one is text-to-text; give prompts")
    if codec.bos_eos:
        raise UserError(f"{needs} whose texts end with EOS, but this one's fill the sequence; give prompts")
    fixed: dict[int, int] = {}
    length = 0
    for part in re.split(r"(_+)", text):
        ids = [] if part.startswith("_") else codec.encode(part)
        _check_known(codec, text, ids)
        fixed |= dict(enumerate(ids, start=length))
        length += len(ids) or part.count("_")
    if length > codec.max_length:
        raise UserError(
            f"infill {_short(text)} has {length} tokens, more than the model's {codec.max_length}; shorten it"
        )
    if length == len(fixed):
        raise UserError(f"infill {_short(text)} has no blank; write one `_` for each token to fill in")
    if length < codec.max_length:
        fixed[length] = codec.tokenizer_id(codec.eos_id)
    return Request(0, fixed=fixed)


def _check_known(codec: TextCodec, text: str, ids: list[int]) -> None:
    """Refuse tokens outside a restricted vocabulary."""
    if codec.kept_ids is None or codec.unknown_id is None:
        return
    known = {*codec.kept_ids} - {codec.kept_ids[codec.unknown_id]}
    if unknown := [one for one in ids if one not in known]:
        tokens = ", ".join(map(repr, codec.text_tokenizer.convert_ids_to_tokens(unknown)))
        raise UserError(f"{_short(text)}: the model's vocabulary does not contain {tokens}; rephrase it")


def _short(text: str, limit: int = 40) -> str:
    return repr(text if len(text) <= limit else f"{text[:limit]}…")
