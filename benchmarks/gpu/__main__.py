"""Several measurements in one call, each within its part of the time.

    PYTHONPATH=src:.cache/gpu/site python -m benchmarks.gpu all --minutes 9 --output results

Each measurement is a process of its own, prints its table and writes `results/NAME.json`; unknown options,
such as `--device cpu --size tiny`, are passed on. Ends with status 1 where one failed or was stopped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import Budget

PARTS = {"golden": 2.0, "train": 4.0, "sample": 2.0, "profile": 1.0}
"""Each measurement's part of the time; what one does not use, the later ones have."""
SAMPLE = "--size elf-b --device cuda --rounds 5 --kind sde --steps 32 --compile --bf16"
"""The published settings for unconditional text."""
STARTING_SECONDS = 15.0
"""For imports, before a measurement's own clock starts."""


def measured(name: str, seconds: float, limit: float, file: Path, words: list[str]) -> str | None:
    """Run one measurement within its part of the time, and stop it at the limit; returns what went wrong."""
    if seconds < STARTING_SECONDS:
        return f"{name}: no time"
    minutes = (seconds - STARTING_SECONDS) / 60
    module = ["benchmarks.sample", *SAMPLE.split()] if name == "sample" else [f"benchmarks.gpu.{name}"]
    command = [sys.executable, "-m", *module, f"--minutes={minutes}", f"--json={file}", *words]
    try:
        status = subprocess.run(command, timeout=limit, check=False).returncode
    except subprocess.TimeoutExpired:
        return f"{name}: stopped after {limit:.0f} s, without results"
    return f"{name}: ended with status {status}" if status else None


def main() -> None:
    """Run what is asked for, and say what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", choices=["all", *PARTS])
    parser.add_argument("--minutes", type=float, default=9, help="for everything (9)")
    parser.add_argument("--output", type=Path, default=Path("results"), help="folder for the JSON files")
    options, words = parser.parse_known_args()
    names = list(PARTS) if "all" in options.names else options.names
    budget, problems = Budget(options.minutes), []
    for place, name in enumerate(names):
        file = options.output / f"{name}.json"
        file.unlink(missing_ok=True)
        share = PARTS[name] / sum(PARTS[later] for later in names[place:])
        print(f"\n{name}", flush=True)
        problems.append(measured(name, share * budget.seconds_left, budget.seconds_left, file, words))
        if file.is_file():
            budget.left_out += [f"{name}: {one}" for one in json.loads(file.read_text())["left_out"]]
    print(f"\nin total, {budget}")
    raise SystemExit("\n".join(filter(None, problems)) or 0)


if __name__ == "__main__":
    main()
