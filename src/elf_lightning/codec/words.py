"""Known words: sequences of word pieces that spell a word of the training text."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence, Set
from typing import TYPE_CHECKING

from torch import Tensor

from elf_lightning.codec.spacing import piece_prefix
from elf_lightning.encoders.hugging_face import token_ids
from elf_lightning.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MIN_COUNT = 3  # rarer words are not listed: many are errors of printing or scanning


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
