"""Where spaces go in a text whose punctuation was split off, as word-piece tokenizers do."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LEFT = frozenset(".,;:!?%)]}…°")  # what stands at the word before it
RIGHT = frozenset("([{")  # what stands at the word after it
BOTH = frozenset("-\N{EN DASH}\N{EM DASH}/")  # what stands between two words without a space
CURRENCIES = frozenset("$£€#")  # what stands at a number after it
ENDINGS = frozenset(["s", "t", "d", "m", "re", "ve", "ll"])  # what follows the apostrophe of it's and don't
ELISIONS = frozenset(["tis", "twas", "twere", "twill", "twould", "em"])  # what begins with an apostrophe
PREFIXES = frozenset(["o", "d", "l", "qu"])  # what ends in an apostrophe: o'clock, d'Artagnan
ABBREVIATIONS = frozenset({("a", "m"), ("p", "m"), ("i", "e"), ("e", "g")})
"""Letters that are written without a space after the full stop between them."""
BROKEN_PAIR = 1.5
"""Cost of two opening or two closing quotes in a row, against 2 for a quote that touches nothing."""


def piece_prefix(tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """What the tokens inside a word begin with, in word-piece tokenizers; None for others."""
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    prefix: str | None = getattr(decoder, "prefix", None)  # decoders of word pieces alone have one
    return prefix


def decoded(tokenizer: "PreTrainedTokenizerBase", sequences: list[list[int]]) -> list[str]:
    """The texts of tokenizer ids; those of word pieces are set as in print, others keep their spaces."""
    prefix = piece_prefix(tokenizer)
    if prefix is None:
        texts: list[str] = tokenizer.batch_decode(sequences) if sequences else []
        return texts
    return ["".join(spaced_pieces(tokenizer.convert_ids_to_tokens(ids), prefix)) for ids in sequences]


def spaced_pieces(pieces: Sequence[str], prefix: str) -> list[str]:
    """The text of each word piece, with the space before it; `prefix` begins those that continue a word."""
    texts: list[str] = []
    words: list[str] = []
    starts: list[int] = []
    for place, piece in enumerate(pieces):
        texts.append(piece.removeprefix(prefix))
        if words and piece.startswith(prefix):
            words[-1] += texts[-1]
        else:
            words.append(texts[-1])
            starts.append(place)
    for start, spaced in zip(starts, space_before(words), strict=True):
        texts[start] = " " * spaced + texts[start]
    return texts


def space_before(words: Sequence[str]) -> list[bool]:
    """Whether a space stands before each of the words and marks of a text; never before the first.

    Straight quotes say not which way they open: they are taken in pairs, with the fewest that open before
    punctuation or close nothing.
    """
    opening = _opening_double(words) | _opening_single(words)
    glued_right = [_stands_at_next(words, place, opening) for place in range(len(words))]
    return [
        place > 0 and not glued_right[place - 1] and not _stands_at_last(words, place, opening)
        for place in range(len(words))
    ]


def _neighbours(words: Sequence[str], place: int) -> tuple[str, str]:
    """The words before and after a place; empty at the ends of the text."""
    return words[place - 1] if place else "", words[place + 1] if place + 1 < len(words) else ""


def _stands_at_last(words: Sequence[str], place: int, opening: dict[int, bool]) -> bool:
    word, last = words[place], words[place - 1]
    if place in opening:
        return not opening[place]
    if word in LEFT or word in BOTH:
        return True
    before = words[place - 2] if place > 1 else ""
    if last == "," and before.isdecimal() and len(before) <= 3:
        return word.isdecimal() and len(word) == 3
    if last in (".", ":") and before.isdecimal():
        return word.isdecimal()
    return last == "." and (before, word) in ABBREVIATIONS


def _stands_at_next(words: Sequence[str], place: int, opening: dict[int, bool]) -> bool:
    word = words[place]
    if place in opening:
        return opening[place] or (word == "'" and _within_word(words, place))
    if word in CURRENCIES:
        return _neighbours(words, place)[1][:1].isdecimal()
    return word in RIGHT or word in BOTH


def _within_word(words: Sequence[str], place: int) -> bool:
    """Whether an apostrophe has letters of its word on both sides."""
    last, following = _neighbours(words, place)
    return last[-1:].isalnum() and (following in ENDINGS or (last in PREFIXES and following[:1].isalpha()))


def _opening_double(words: Sequence[str]) -> dict[int, bool]:
    """Which double quotes open, by place, in the cheapest reading: neighbours cost, a broken pair extra."""
    places = [place for place, word in enumerate(words) if word == '"']
    paths: dict[bool, tuple[float, list[bool]]] = {False: (0.0, []), True: (BROKEN_PAIR / 4, [])}
    for place in places:
        last, following = _neighbours(words, place)
        inside = 0.5 if last[-1:].isalnum() else 0.0
        costs = {True: 0.0 if following and following not in LEFT else 2.0, False: 0.0 if last else 2.0}
        paths = {
            opens: min(
                (cost + inside + costs[opens] + BROKEN_PAIR * (before == opens), [*path, opens])
                for before, (cost, path) in paths.items()
            )
            for opens in (True, False)
        }
    return dict(zip(places, min(paths.values())[1], strict=True))


def _opening_single(words: Sequence[str]) -> dict[int, bool]:
    """Which apostrophes and single quotes stand at the word after them, by place."""
    roles: dict[int, bool] = {}
    quoting = False
    for place in (place for place, word in enumerate(words) if word == "'"):
        last, following = _neighbours(words, place)
        if _within_word(words, place):
            roles[place] = False
        elif following in ELISIONS:
            roles[place] = True
        elif quoting and not (last.endswith("s") and following[:1].isalpha()):
            roles[place] = quoting = False
        else:
            possessive = last[-1:].isalpha() and (last.endswith(("s", "in")) or not following[:1].isalnum())
            roles[place] = not possessive and following != ""
            quoting = quoting or roles[place]
    return roles
