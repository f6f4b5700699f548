"""`--ckpt_path`: finds the file and checks that it can be used."""

from __future__ import annotations

from pathlib import Path

from elf_lightning.checkpoints.load import read_torch_file
from elf_lightning.checkpoints.locate import find_checkpoint
from elf_lightning.errors import UserError

LIGHTNING_KEYWORDS = ("best", "last", "hpc")
"""Values with which Lightning finds the checkpoint itself."""


def checkpoint_file(path: str, resumes: bool) -> str:
    """The checkpoint file that `path` refers to.

    Args:
        path: a file, a run's folder (its newest checkpoint), or one of `LIGHTNING_KEYWORDS`.
        resumes: training will resume from it, which needs the optimizer state.

    Raises:
        UserError: if the file does not exist or cannot be used.
    """
    if path in LIGHTNING_KEYWORDS:
        return path
    if not Path(path).exists():
        raise UserError(f"--ckpt_path {path}: file not found; checkpoints are in runs/<name>/checkpoints")
    file = find_checkpoint(path)
    if Path(path).is_dir():
        # Prefer the link `last.ckpt`: Lightning updates it only when resuming from that name.
        links = (link for link in file.parent.glob("last*.ckpt") if link.exists() and link.samefile(file))
        file = min(links, default=file)
    if file.is_dir():
        raise UserError(f"--ckpt_path {path} contains only weights; use --model.init_from {path}")
    try:
        content = read_torch_file(file)
    except UserError as error:
        raise UserError(f"--ckpt_path {file}: {error}") from error
    if not content.keys() >= {"elf", "state_dict"}:
        raise UserError(
            f"--ckpt_path {file} was not written by a run of elf_lightning; to load weights in another "
            f"format, use --model.init_from {file}"
        )
    if resumes and "optimizer_states" not in content:
        raise UserError(
            f"--ckpt_path {file} contains only weights, so training cannot resume from it; start a new run "
            f"with --model.init_from {file}"
        )
    return str(file)
