"""Texts of word-piece tokenizers, which split off punctuation: where spaces go, and which words are known."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence, Set
from typing import TYPE_CHECKING

from torch import Tensor

from elf_lightning.encoders.hugging_face import token_ids
from elf_lightning.errors import UserError

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

MIN_COUNT = 3  # rarer words are not listed: many are errors of printing or scanning


def piece_prefix(tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """What the tokens inside a word begin with, in word-piece tokenizers; None for others."""
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    prefix: str | None = getattr(decoder, "prefix", None)  # decoders of word pieces alone have one
    return prefix


def decoded(tokenizer: "PreTrainedTokenizerBase", sequences: list[list[int]]) -> list[str]:
    """The texts of tokenizer ids; those of word pieces are set as in print, others keep their spaces."""
    prefix = piece_prefix(tokenizer)
    if prefix is None:
        return list(tokenizer.batch_decode(sequences)) if sequences else []
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

    Straight quotes do not show which way they open: they are paired so that as few as possible open before
    punctuation or close nothing.
    """
    opening = _opening_double(words) | _opening_single(words)
    return [
        place > 0
        and not _stands_at_next(words, place - 1, opening)
        and not _stands_at_last(words, place, opening)
        for place in range(len(words))
    ]


def _neighbours(words: Sequence[str], place: int) -> tuple[str, str]:
    """The words before and after a place; empty at the ends of the text."""
    return words[place - 1] if place else "", words[place + 1] if place + 1 < len(words) else ""


def _stands_at_last(words: Sequence[str], place: int, opening: dict[int, bool]) -> bool:
    word, last = words[place], words[place - 1]
    if place in opening or word in LEFT or word in BOTH:
        return not opening.get(place)
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


def words_in_pieces(tokenizer: "PreTrainedTokenizerBase", texts: Iterable[str]) -> list[str]:
    """The words of `texts` that occur at least `MIN_COUNT` times and are several word pieces each, sorted."""
    if piece_prefix(tokenizer) is None:
        raise UserError(f"tokenizer '{tokenizer.name_or_path}' has no word pieces; leave out --words")
    backend = tokenizer.backend_tokenizer
    counts: Counter[str] = Counter()
    for text in texts:
        normalised = backend.normalizer.normalize_str(text) if backend.normalizer else text
        counts.update(word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normalised))
    words = sorted(word for word, count in counts.items() if count >= MIN_COUNT)
    pieces = token_ids(tokenizer, words) if words else []
    return [word for word, ids in zip(words, pieces, strict=True) if len(ids) > 1]


class KnownWords:
    """Finds the most likely sequence of tokens whose words are one token each, or listed.

    A network that decodes each position by itself may put pieces together that are in no word. The search is
    dynamic programming over the likeliest tokens of each position. `words` are the ids of each word of
    several tokens, and `inside` those that continue a word.
    """

    def __init__(self, words: Iterable[Sequence[int]], inside: Set[int]) -> None:
        self._inside = inside
        self._words: set[tuple[int, ...]] = set()
        self._next: dict[tuple[int, ...], set[int]] = defaultdict(set)  # begun words -> pieces that go on
        for word in map(tuple, words):
            self._words.add(word)
            for length in range(1, len(word)):
                self._next[word[:length]].add(word[length])

    def most_likely(self, scores: Tensor, ids: Tensor) -> list[int]:
        """The best tokens (S,) of a sequence, from the K best `ids` of each position, (S, K), best first.

        `scores` (S, K) are log-probabilities or logits. Where none fits, the likeliest is taken as it is.
        """
        # The pieces of the current word -> the best score so far, and the pieces before this position.
        states: dict[tuple[int, ...], tuple[float, tuple[int, ...]]] = {(): (0.0, ())}
        steps = []
        for row, tokens in zip(scores.tolist(), ids.tolist(), strict=True):
            candidates = dict(zip(tokens, row, strict=True))
            reached = {
                (*word, token): (total + candidates[token], word)
                for word, (total, _) in states.items()
                for token in self._next.get(word, set()) & candidates.keys()
            }
            ends = (word for word in states if len(word) < 2 or word in self._words)
            whole = [(states[word][0], word) for word in ends]
            total, word = max(whole, default=(0.0, ()))
            new = tokens if whole else []
            reached |= {(one,): (total + candidates[one], word) for one in new if one not in self._inside}
            if not reached:
                total, word = max((total, word) for word, (total, _) in states.items())
                reached[(tokens[0],)] = (total + row[0], word)
            steps.append(reached)
            states = reached
        word = max(states, key=lambda word: states[word])
        found = []
        for reached in reversed(steps):
            found.append(word[-1])
            word = reached[word][1]
        return found[::-1]
