"""Matrices in int8: how far they may be from the original, and what a damaged file says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from elf_lightning.checkpoints import ModelBundle, load_model, save_hub
from elf_lightning.checkpoints.hub import dequantize, quantize
from elf_lightning.errors import UserError

MATRIX = "latent_in.down.weight"


def matrix(rows: int, columns: int, seed: int, magnitude: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator) * magnitude


@settings(deadline=None)
@given(st.integers(1, 7), st.integers(1, 9), st.integers(0, 99), st.sampled_from([1e-30, 1e-3, 1.0, 1e30]))
def test_every_value_is_the_nearest_multiple_of_its_rows_scale(
    rows: int, columns: int, seed: int, magnitude: float
) -> None:
    weight = matrix(rows, columns, seed, magnitude)
    stored = quantize({"w": weight})
    assert (stored["w"].dtype, stored["w.scale"].shape) == (torch.int8, (rows,))
    exact = weight.double() / stored["w.scale"].double()[:, None]
    assert (exact - stored["w"].double()).abs().max() <= 0.5 + 1e-4
    assert stored["w"].abs().amax(1).eq(127).all(), "the whole range is used, and symmetric"
    error = (dequantize(stored)["w"] - weight).abs().amax(1)
    assert (error <= weight.abs().amax(1) / 254 * 1.001).all()


@settings(deadline=None)
@given(st.integers(0, 99))
def test_a_second_time_changes_nothing(seed: int) -> None:
    once = quantize({"w": matrix(5, 30, seed, 0.02)})
    twice = quantize(dequantize(once))
    assert torch.equal(twice["w"], once["w"])
    torch.testing.assert_close(twice["w.scale"], once["w.scale"])


def test_rows_of_zeros_and_everything_but_matrices_are_exact() -> None:
    weights = {
        "w": torch.tensor([[0.0, 0.0], [1.0, -2.0]]),
        "bias": torch.randn(3),
        "tokens": torch.randn(1, 2, 3),
    }
    restored = dequantize(quantize(weights))
    assert restored.keys() == weights.keys()
    assert restored["w"][0].tolist() == [0.0, 0.0]
    for name in ("bias", "tokens"):
        assert torch.equal(restored[name], weights[name])


def test_hub_folder(bundle: ModelBundle, tmp_path: Path) -> None:
    with_direction = replace(bundle, dtype="int8", repetition_direction=torch.randn(8))
    save_hub(with_direction, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["format_version"] == 3
    loaded = load_model(tmp_path)
    assert (loaded.config, loaded.dtype) == (bundle.config, "int8")
    assert loaded.repetition_direction is not None
    assert loaded.repetition_direction.equal(with_direction.repetition_direction)
    assert loaded.weights.keys() == bundle.weights.keys()
    for name, value in bundle.weights.items():
        bound = value.abs().amax(-1, keepdim=True) / 254 * 1.001 if value.dim() == 2 else 0
        assert ((loaded.weights[name] - value).abs() <= bound).all(), name
    save_hub(loaded, tmp_path / "again")
    written, before = (load_file(folder / "model.safetensors") for folder in (tmp_path / "again", tmp_path))
    assert all(written[name].equal(value) for name, value in before.items() if value.dtype == torch.int8)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_hub_folder_of_another_floating_point_type(bundle: ModelBundle, tmp_path: Path, dtype: str) -> None:
    save_hub(replace(bundle, dtype=dtype), tmp_path)  # type: ignore[arg-type]
    assert {str(value.dtype) for value in load_file(tmp_path / "model.safetensors").values()} == {
        f"torch.{dtype}"
    }
    assert json.loads((tmp_path / "config.json").read_text())["format_version"] == 2
    assert load_model(tmp_path).dtype is None


def test_lists_of_numbers_are_on_one_line(bundle: ModelBundle, tmp_path: Path) -> None:
    """A vocabulary has tens of thousands of ids."""
    save_hub(bundle, tmp_path)
    text = (tmp_path / "config.json").read_text()
    assert f'"kept_ids": {json.dumps(list(range(5, 25)))},\n' in text
    assert load_model(tmp_path).config == bundle.config


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda scale: None, "are missing or do not fit it"),
        (lambda scale: scale[:-1].clone(), "are missing or do not fit it"),
        (lambda scale: scale * float("nan"), "are not all finite and positive"),
        (lambda scale: -scale, "are not all finite and positive"),
    ],
)
def test_damaged_scales_are_one_line(
    bundle: ModelBundle, tmp_path: Path, damage: Callable[[Tensor], Tensor | None], said: str
) -> None:
    save_hub(replace(bundle, dtype="int8"), tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    changed = damage(stored.pop(f"{MATRIX}.scale"))
    save_file(
        stored | ({} if changed is None else {f"{MATRIX}.scale": changed}), tmp_path / "model.safetensors"
    )
    with pytest.raises(UserError, match=said) as error:
        load_model(tmp_path)
    assert f"the scales of '{MATRIX}'" in str(error.value)
    assert str(error.value).endswith("; copy model.safetensors again")
    assert "\n" not in str(error.value)
