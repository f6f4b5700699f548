"""The fast path of encoders: one mask where nothing is masked, and a compiled copy in bfloat16."""

from __future__ import annotations

import logging
from copy import deepcopy

import pytest
import torch
from torch import Tensor

from elf_lightning.batch import TokenBatch
from elf_lightning.codec import Embedder, LatentStatistics
from elf_lightning.encoders import PretrainedEncoder, encoder_mask, pretrained
from elf_lightning.errors import UserError

FAMILIES = ["tiny_t5", "tiny_t5gemma", "tiny_bert", "tiny_gpt2", "tiny_llama"]


def example() -> tuple[Tensor, Tensor]:
    """Ids of two sequences, and the mask of 3 condition, 4 target and 2 padding positions."""
    ids = torch.arange(5, 23).view(2, 9)
    attention, condition = torch.arange(9).expand(2, 9) < 7, torch.arange(9).expand(2, 9) < 3
    return ids, encoder_mask(attention, condition, torch.tensor([True, False]))


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile on the CPU too, in one graph, without generating code."""
    torch.compiler.reset()
    monkeypatch.setattr(pretrained, "COMPILED_ON", ("cpu",))
    monkeypatch.setattr(pretrained, "room_for_graphs", lambda: {"backend": "eager", "fullgraph": True})


@pytest.mark.parametrize("model_folder", FAMILIES, indirect=True)
def test_without_a_mask_every_position_sees_all(model_folder: str) -> None:
    ids, _ = example()
    everything = torch.ones(2, 9, 9, dtype=torch.bool)
    encoder = PretrainedEncoder(model_folder).load()
    torch.testing.assert_close(encoder(ids, None), encoder(ids, everything), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("model_folder", "token"),
    [("tiny_bert", "[CLS]"), ("tiny_gpt2", "<|endoftext|>")],
    indirect=["model_folder"],
)
def test_a_start_token_sees_only_itself_without_a_mask_too(model_folder: str, token: str) -> None:
    encoder = PretrainedEncoder(model_folder, start_token=token)
    ids, everything = example()[0], torch.ones(2, 9, 9, dtype=torch.bool)
    torch.testing.assert_close(encoder(ids, None), encoder(ids, everything), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("full", "masks"), [(True, 1), (False, 2)])
def test_a_full_batch_has_one_mask_for_all_sequences(tiny_t5: str, full: bool, masks: int) -> None:
    encoder, given = PretrainedEncoder(tiny_t5).load(), list[Tensor]()
    encoder.encode = lambda ids, mask: given.append(mask) or torch.zeros(*ids.shape, 16)  # type: ignore
    on = torch.ones(2, 9, dtype=torch.bool)
    embedder = Embedder(encoder, LatentStatistics(0.0, 1.0))
    embedder.tokens(TokenBatch(example()[0], on, ~on, on, ~on[:, 0], full=full))
    assert given[0].shape == (masks, 1, 9, 9)
    assert given[0].all()


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("model_folder", FAMILIES, indirect=True)
def test_the_compiled_copy_is_as_near_as_the_librarys_own_bfloat16(model_folder: str) -> None:
    encoder = PretrainedEncoder(model_folder)
    ids, mask = example()
    for given in (None, mask):
        exact = encoder(ids, given)
        with torch.autocast("cpu", torch.bfloat16):
            fast = encoder(ids, given)
        with torch.no_grad():
            seen = torch.ones(1, 1, 9, 9, dtype=torch.bool) if given is None else given[:, None]
            seen = seen.tril() if encoder.causal else seen
            library = encoder._hidden_states(deepcopy(encoder.model).bfloat16(), ids, seen)
        error, own = ((one - exact)[:, :7].square().mean().sqrt() for one in (fast, library))
        assert fast.dtype == torch.float32
        assert 0 < error <= 1.5 * own < 0.03 * exact.std()


@pytest.mark.usefixtures("traced")
def test_validation_may_come_before_training(tiny_t5: str) -> None:
    encoder = PretrainedEncoder(tiny_t5)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.inference_mode():
            first = encoder(*example())
        with torch.no_grad():
            assert torch.equal(encoder(*example()), first)
    assert encoder.bfloat16_model is not None
    assert not any(parameter.is_inference() for parameter in encoder.bfloat16_model.parameters())


@pytest.mark.usefixtures("traced")
def test_float32_and_float16_run_the_model_as_it_is(tiny_t5: str) -> None:
    encoder = PretrainedEncoder(tiny_t5)
    encoder(*example())
    with torch.autocast("cpu", torch.float16):
        encoder(*example())
    assert encoder.bfloat16_model is None


@pytest.mark.usefixtures("traced")
def test_compiling_can_be_switched_off(tiny_t5: str) -> None:
    encoder = PretrainedEncoder(tiny_t5, compile=False)
    with torch.autocast("cpu", torch.bfloat16):
        encoder(*example())
    assert encoder.bfloat16_model is None
    assert encoder.identity() == PretrainedEncoder(tiny_t5).identity()


@pytest.mark.usefixtures("traced")
def test_a_model_that_cannot_be_compiled_runs_as_it_is_and_that_is_said_once(
    tiny_t5: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise UserError("no compiler was found")

    monkeypatch.setattr(pretrained, "require_compiler", refuse)
    encoder = PretrainedEncoder(tiny_t5)
    with torch.autocast("cpu", torch.bfloat16), caplog.at_level(logging.WARNING):
        first, second = encoder(*example()), encoder(*example())
    assert torch.equal(first, second)
    assert [record.getMessage() for record in caplog.records] == [
        f"encoder '{tiny_t5}' runs uncompiled, which is slower (no compiler was found)"
    ]
