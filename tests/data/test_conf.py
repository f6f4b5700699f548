"""The shipped data configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentParser

from elf_lightning.data import ELFDataModule
from elf_lightning.errors import UserError

CONF = Path(__file__).parents[2] / "conf" / "data"
FILES = sorted(CONF.glob("*.yaml"))


def parse(file: Path, *more: str) -> tuple[ArgumentParser, Any]:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(ELFDataModule, "data")
    return parser, parser.parse_args(["--data", str(file), *more])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_configuration_is_understood_without_loading_anything(file: Path) -> None:
    _, config = parse(file)
    assert config.data.encoder.init_args.name_or_path == "google-t5/t5-small"
    assert (config.data.latent_mean, config.data.latent_std, config.data.global_batch_size) == (0.0, 0.2, 512)


@pytest.mark.parametrize(
    ("name", "lengths"),
    [("openwebtext", (1024, None)), ("wmt14_de_en", (128, 64)), ("xsum", (1088, 1024))],
)
def test_lengths_are_the_papers(name: str, lengths: tuple[int, int | None]) -> None:
    _, config = parse(CONF / f"{name}.yaml")
    assert (config.data.max_length, config.data.max_condition_length) == lengths
    paired = lengths[1] is not None
    assert config.data.pad_mode == ("eos" if paired else "pad")
    assert config.data.label_drop_probability == (0.1 if paired else 0.0)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_without_the_hub_the_encoder_is_one_clear_line(file: Path) -> None:
    parser, config = parse(file)
    with pytest.raises(UserError, match=r"'google-t5/t5-small' could not be read.*local folder") as error:
        parser.instantiate(config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_without_the_hub_the_source_is_one_clear_line(file: Path, tiny_t5: str, tmp_path: Path) -> None:
    parser, config = parse(
        file, "--data.encoder.init_args.name_or_path", tiny_t5, "--data.cache_dir", str(tmp_path)
    )
    data = parser.instantiate(config).data
    path = config.data.source.init_args.path
    # The official pre-tokenised rows are expected in a folder here, not on the Hub.
    told = (
        "there is no such folder; give one written by save_to_disk, or a Hub id"
        if path.startswith("./")
        else "could not be reached.*point source.path at the local copy"
    )
    with pytest.raises(UserError, match=told) as error:
        data.prepare_data()
    assert path in str(error.value)
    assert "\n" not in str(error.value)
