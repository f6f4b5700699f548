"""`--ckpt_path`: the file that is meant, and whether it serves."""

from __future__ import annotations

from pathlib import Path

from elf_lightning.checkpoints.locate import find_checkpoint
from elf_lightning.checkpoints.torch_file import read_torch_file
from elf_lightning.errors import UserError

LIGHTNINGS_OWN = ("best", "last", "hpc")
"""Words with which Lightning looks for a checkpoint itself."""


def checkpoint_file(path: str, resumes: bool) -> str:
    """The file that `path` means, after a look at whether it can be used.

    Args:
        path: a file, a run's folder for the newest in it, or one of Lightning's own words, which stay.
        resumes: training is to go on from it, which takes more than weights.

    Raises:
        UserError: if there is no such file, or it does not serve.
    """
    if path in LIGHTNINGS_OWN:
        return path
    if not Path(path).exists():
        raise UserError(
            f"--ckpt_path {path}: there is no such file; checkpoints lie in runs/<name>/checkpoints"
        )
    file = find_checkpoint(path)
    if Path(path).is_dir():
        # By its link, which Lightning then renews: another name would stay, and the link with it.
        links = (link for link in file.parent.glob("last*.ckpt") if link.exists() and link.samefile(file))
        file = min(links, default=file)
    if file.is_dir():
        raise UserError(f"--ckpt_path {path}: it holds weights alone; give them as --model.init_from {path}")
    try:
        content = read_torch_file(file)
    except UserError as error:
        raise UserError(f"--ckpt_path {file}: {error}") from error
    if not content.keys() >= {"elf", "state_dict"}:
        raise UserError(
            f"--ckpt_path {file}: it was not written by a run of elf_lightning; if it holds weights in "
            f"another format, give them as --model.init_from {file}"
        )
    if resumes and "optimizer_states" not in content:
        raise UserError(
            f"--ckpt_path {file}: it holds weights alone, so training cannot go on from it; begin a new run "
            f"from them with --model.init_from {file}"
        )
    return str(file)
