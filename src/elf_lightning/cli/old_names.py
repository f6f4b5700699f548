"""Names from earlier versions, still accepted, with one warning."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

KEYS = {
    "held_out_fraction": "validation_fraction",
    "judge": "scoring_model",
    "num_predict_rows": "num_predict_samples",
    "streamed_rows": "streamed_examples",
    "streamed_validation_rows": "streamed_validation_examples",
}
"""Old name of a setting -> new name."""
OPTIONS = {"--judge": "--scoring-model", "--judge-dtype": "--scoring-model-dtype"}
"""Old option of `elf eval-text` -> new option."""
CLASSES = {
    "Muon": "MuonSettings",
    "AdamW": "AdamWSettings",
    "elf_lightning.optim.Muon": "elf_lightning.optim.MuonSettings",
    "elf_lightning.optim.AdamW": "elf_lightning.optim.AdamWSettings",
    "elf_lightning.modules.ELFModule": "elf_lightning.training.ELFModule",
}
"""Old `class_path` -> new one."""


def renamed_settings(settings: Any) -> tuple[Any, list[str]]:
    """Settings, as read from YAML, under their new names, and the renamings: `old is now new`."""
    found: list[str] = []

    def renamed(value: Any) -> Any:
        if isinstance(value, list):
            return [renamed(item) for item in value]
        if not isinstance(value, dict):
            return value
        result = {}
        for key, item in value.items():
            if key in KEYS:
                found.append(f"{key} is now {KEYS[key]}")
            if key in ("class_path", "optimizer") and isinstance(item, str) and item in CLASSES:
                found.append(f"{item} is now {CLASSES[item]}")
                item = CLASSES[item]
            result[KEYS.get(key, key)] = renamed(item)
        return result

    return renamed(settings), found


def renamed_option(word: str) -> tuple[str, list[str]]:
    """An option, such as `--model.evaluation.judge.name=gpt2`, under its new name, and the renamings."""
    option, equals, value = word.partition("=")
    if not option.startswith("--"):
        return word, []
    parts = option.split(".")
    found = [f"{part} is now {KEYS[part]}" for part in parts if part in KEYS]
    return ".".join(KEYS.get(part, part) for part in parts) + equals + value, found


def warn_of_old_names(found: Sequence[str], where: str) -> None:
    """Print one line on stderr if any name was renamed."""
    if found:
        print(f"{where}: {', '.join(dict.fromkeys(found))}; the old names still work", file=sys.stderr)


def renamed_words(words: Sequence[str]) -> list[str]:
    """The arguments of `elf eval-text` under their new names, with one warning if any was renamed."""
    options = [word.partition("=") for word in words]
    warn_of_old_names([f"{old} is now {OPTIONS[old]}" for old, _, _ in options if old in OPTIONS], "options")
    return [OPTIONS.get(option, option) + equals + value for option, equals, value in options]
