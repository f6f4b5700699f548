"""One of two ranks: `ranks.py RANK STORE SCORING_MODEL` scores part of the texts and prints every metric."""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta

import torch.distributed as dist

from elf_lightning.metrics import (
    Bleu,
    CrossSampleOverlap,
    DistinctN,
    GenerativePerplexity,
    Repetition,
    Rouge,
    ScoringModel,
    UnigramEntropy,
)

TEXTS = [
    "the wind moved over the face of the waters",
    "the wind moved over the face of the waters of zion",
    "",
    "all is vanity all is vanity all is vanity",
    "let your light shine",
    "the the the the the the the",
    "a soft answer turns away wrath but a harsh word stirs up anger in the city gates",
]
REFERENCES = [text.replace("the", "a") + " and more" for text in TEXTS]
# How many texts rank 0 has; rank 1 has the rest. None: it never calls update.
SPLITS: dict[str, tuple[int | None, int | None]] = {
    "even": (4, 3),
    "uneven": (1, 6),
    "only rank 0": (7, 0),
    "only rank 1": (0, 7),
    "rank 0 never updates": (None, 7),
    "rank 1 never updates": (7, None),
}


def every_metric(scoring_model: ScoringModel, texts: slice | None) -> dict[str, float]:
    """Each metric's value over these texts and those of the other rank."""
    unpaired = [
        GenerativePerplexity(scoring_model),
        UnigramEntropy(scoring_model),
        Repetition(n=2),
        DistinctN(),
        CrossSampleOverlap(2),
    ]
    paired = [Bleu(), Rouge()]
    if texts is not None:
        for metric in unpaired:
            metric.update(TEXTS[texts])
        for metric in paired:
            metric.update(TEXTS[texts], REFERENCES[texts])
    values: dict[str, float] = {}
    for metric in [*unpaired, *paired]:
        value = metric.compute()
        named = value if isinstance(value, dict) else {type(metric).__name__: value}
        values |= {name: number.item() for name, number in named.items()}
    return values


def complaint(scoring_model: ScoringModel) -> str:
    """What both ranks say when nobody has a text; then the metric is of use again."""
    metric = GenerativePerplexity(scoring_model)
    metric.update([])
    try:
        metric.compute()
    except Exception as error:  # noqa: BLE001  (its kind is part of the answer)
        metric.reset()
        metric.update(TEXTS)
        metric.compute()
        return f"{type(error).__name__}: {error}"
    return "nothing"


def main() -> None:
    rank = int(sys.argv[1])
    dist.init_process_group(
        "gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2, timeout=timedelta(seconds=120)
    )
    scoring_model = ScoringModel.load(sys.argv[3], context_length=32, batch_size=2)
    values: dict[str, object] = {"no samples": complaint(scoring_model)}
    for name, counts in SPLITS.items():
        count = counts[rank]
        share = slice(0, count) if rank == 0 else slice(len(TEXTS) - (count or 0), len(TEXTS))
        values[name] = every_metric(scoring_model, None if count is None else share)
    dist.barrier()
    print(json.dumps(values), flush=True)
    # All is said. How gloo's threads end with the interpreter is not under test; now and then it is badly.
    os._exit(0)


if __name__ == "__main__":
    main()
