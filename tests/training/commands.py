"""`commands.py FILE`: runs commands one after another, each a list of words in a JSON list, as `elf` does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from elf_lightning.cli import main

if __name__ == "__main__":
    for words in json.loads(Path(sys.argv[1]).read_text()):
        if status := main(words):
            sys.exit(status)
