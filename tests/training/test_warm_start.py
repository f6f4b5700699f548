"""Weights to begin with, from every format, and one line where they do not fit."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from elf_lightning.checkpoints import ELFConfig, ModelBundle, save_hub, save_official
from elf_lightning.codec import TextCodec
from elf_lightning.errors import UserError
from elf_lightning.network import ELFNetwork, NetworkConfig
from elf_lightning.training import ELFModule
from elf_lightning.training.warm_start import InitialWeights

SHAPE = NetworkConfig(hidden_size=16, depth=1, num_heads=2, bottleneck_size=4)
SIZES = {"latent_size": 6, "vocab_size": 11, "max_length": 8}
CODEC = TextCodec(
    tokenizer="somewhere",
    encoder={"class": "PretrainedEncoder", "name_or_path": "somewhere", "layer": None},
    latent_mean=[0.1, -0.2, *[0.0] * 4],
    latent_std=0.5,
    max_length=8,
    pad_id=0,
    eos_id=1,
)


@pytest.fixture
def bundle() -> ModelBundle:
    network = ELFNetwork(SHAPE, **SIZES, generator=torch.Generator().manual_seed(7))
    return ModelBundle(ELFConfig(SHAPE, **SIZES, codec=CODEC), network.state_dict())


def started_from(path: Path | str, **settings: Any) -> ELFModule:
    sizes = {**SIZES, "eos_id": 1, "pad_id": 0, "network": SHAPE, **settings}
    return ELFModule(**sizes, init_from=str(path))


def initial(module: ELFModule) -> InitialWeights:
    """What the module keeps until the Trainer has set up the data."""
    assert module._initial is not None
    return module._initial


def save(bundle: ModelBundle, kind: str, folder: Path) -> Path:
    if kind == "hub":
        save_hub(bundle, folder)
        return folder
    path = folder / ("checkpoint_3" if kind == "official" else "step-3.ckpt")
    if kind == "official":
        save_official(bundle, path)
    else:
        state = {f"network.{name}": value for name, value in bundle.weights.items()}
        path.parent.mkdir(exist_ok=True)
        torch.save({"state_dict": state, "elf": bundle.config.to_dict()}, path)
    return path


@pytest.mark.parametrize("kind", ["lightning", "official", "hub"])
def test_loads_weights_of_any_format(kind: str, bundle: ModelBundle, tmp_path: Path) -> None:
    module = started_from(save(bundle, kind, tmp_path / "model"))
    for name, value in module.network.state_dict().items():
        assert torch.equal(value, bundle.weights[name]), name


def test_the_sequence_length_may_differ(bundle: ModelBundle, tmp_path: Path) -> None:
    module = started_from(save(bundle, "lightning", tmp_path / "model"), max_length=20)
    assert module.network.max_length == 20


@pytest.mark.parametrize(
    "other",
    [
        {"network": replace(SHAPE, depth=2)},
        {"network": replace(SHAPE, self_conditioning=False)},
    ],
)
def test_another_network_is_refused(other: dict[str, Any], bundle: ModelBundle, tmp_path: Path) -> None:
    path = save(bundle, "lightning", tmp_path / "model")
    with pytest.raises(
        UserError, match=r"^model.init_from .*: the weights do not fit the network: "
    ) as error:
        started_from(path, **other)
    assert "\n" not in str(error.value)


def test_a_missing_checkpoint_is_reported_in_one_line() -> None:
    with pytest.raises(UserError, match=r"^model.init_from nowhere.ckpt: checkpoint 'nowhere.ckpt' does not"):
        started_from("nowhere.ckpt")


def test_another_number_of_tokens_is_refused_if_nothing_is_known_about_them(
    bundle: ModelBundle, tmp_path: Path
) -> None:
    path = save(bundle, "official", tmp_path / "model")
    with pytest.raises(UserError, match=r"token_head.unembed.bias \(11,\) instead of \(12,\)"):
        started_from(path, vocab_size=12)
    module = started_from(save(bundle, "hub", tmp_path / "hub"), vocab_size=12)
    with pytest.raises(UserError, match=r"^model.init_from .*hub: the weights have 11 tokens \(here 12\)"):
        initial(module).fit_vocabulary(None)


def restricted(
    bundle: ModelBundle, kept_ids: list[int] | None, tokenizer: str, unknown_id: int
) -> ModelBundle:
    codec = replace(
        CODEC, tokenizer=tokenizer, kept_ids=kept_ids, unknown_id=unknown_id if kept_ids else None
    )
    return replace(bundle, config=replace(bundle.config, codec=codec))


@pytest.mark.parametrize(
    ("theirs", "ours", "rows", "said"),
    [
        # Token 3 of the data is new, and starts as the checkpoint's unknown token, 2, in row 1.
        (
            [0, 2, *range(4, 13)],
            [0, 2, 3, 5, 12],
            [0, 1, 1, 3, 10],
            "of 5 tokens, 4 are known to it and 1 new",
        ),
        # The same number of tokens, but others.
        ([0, 2, *range(4, 13)], [0, *range(2, 12)], [0, 1, 1, *range(2, 10)], "of 11 tokens, 10 are known"),
        # A full vocabulary knows every token.
        (None, [1, 2, 7], [1, 2, 7], "of 3 tokens, 3 are known to it and 0 new"),
    ],
)
def test_token_rows_are_taken_by_tokenizer_id(
    theirs: list[int] | None,
    ours: list[int],
    rows: list[int],
    said: str,
    bundle: ModelBundle,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = save(restricted(bundle, theirs, "somewhere", 1), "hub", tmp_path / "model")
    module = started_from(path, vocab_size=len(ours))
    with caplog.at_level("INFO"):
        initial(module).fit_vocabulary(replace(CODEC, kept_ids=ours, unknown_id=1))
    assert f"model.init_from {path}: weights taken; {said}" in caplog.text
    state = module.network.state_dict()
    for name, value in bundle.weights.items():
        expected = value[rows] if name.startswith("token_head.unembed") else value
        assert torch.equal(state[name], expected), name


def test_the_same_vocabulary_is_taken_as_it_is(
    bundle: ModelBundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(bundle, "lightning", tmp_path / "model")
    module = started_from(path, max_length=20)
    with caplog.at_level("INFO"):
        initial(module).fit_vocabulary(CODEC)
    assert f"model.init_from {path}: weights taken; sequences of 20 tokens instead of 8\n" in caplog.text
    assert torch.equal(module.network.token_head.unembed.weight, bundle.weights["token_head.unembed.weight"])


def test_a_copied_tokenizer_is_the_same_and_another_is_refused(
    bundle: ModelBundle, tiny_t5: str, tiny_bert: str, tmp_path: Path
) -> None:
    copy = shutil.copytree(tiny_t5, tmp_path / "copy")
    path = save(restricted(bundle, [*range(11)], tiny_t5, 2), "hub", tmp_path / "model")
    data = replace(CODEC, kept_ids=[0, 1, 2], unknown_id=2)
    initial(started_from(path, vocab_size=3)).fit_vocabulary(replace(data, tokenizer=str(copy)))
    with pytest.raises(
        UserError, match=r"model.init_from .*: the weights were trained with the tokenizer"
    ) as error:
        initial(started_from(path, vocab_size=3)).fit_vocabulary(replace(data, tokenizer=tiny_bert))
    assert f"(here '{tiny_bert}')" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        ({"latent_mean": [0.11, -0.2, *[0.0] * 4]}, False),
        ({"latent_mean": [0.1, -0.25, *[0.0] * 4]}, True),
        ({"latent_mean": 0.0}, True),
        ({"latent_std": 0.51}, False),
        ({"latent_std": 0.6}, True),
    ],
)
def test_another_normalisation_is_a_warning(
    ours: dict[str, Any],
    expected: bool,
    bundle: ModelBundle,
    tmp_path: Path,
    recwarn: pytest.WarningsRecorder,
) -> None:
    initial(started_from(save(bundle, "hub", tmp_path / "model"))).fit_vocabulary(replace(CODEC, **ours))
    assert [("another normalisation" in str(warning.message)) for warning in recwarn] == [True] * expected
