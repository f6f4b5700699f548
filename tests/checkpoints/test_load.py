"""`load_model` reads every format and refuses everything else."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from elf_lightning.checkpoints import ModelBundle, load_model, newest_checkpoint, save_hub, save_official
from elf_lightning.errors import UserError
from elf_lightning.network import ELFNetwork


def same(one: ModelBundle, other: ModelBundle) -> bool:
    return one.config == other.config and equal(one.weights, other.weights)


def equal(one: Any, other: Any) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def flipped(data: bytes, place: int | None = None) -> bytes:
    """The bytes with one of them, by default in the middle, changed."""
    place = len(data) // 2 if place is None else place
    return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


def complaint(source: str | Path, **download: Any) -> str:
    with pytest.raises(UserError) as error:
        load_model(source, **download)
    assert "\n" not in str(error.value)
    return str(error.value)


# Models that can be read


def test_lightning_checkpoint(bundle: ModelBundle, save_lightning: Any, tmp_path: Path) -> None:
    path = save_lightning(tmp_path / "last.ckpt")
    assert same(load_model(path), bundle)
    raw = load_model(path, averaged=False)
    assert equal(raw.weights, {name: value + 1 for name, value in bundle.weights.items()})


def test_loaded_weights_outlive_the_file(bundle: ModelBundle, save_lightning: Any, tmp_path: Path) -> None:
    path = save_lightning(tmp_path / "last.ckpt")
    loaded = load_model(path)
    path.write_bytes(b"0" * path.stat().st_size)
    assert equal(loaded.weights, bundle.weights)


def test_hub_folder(bundle: ModelBundle, tmp_path: Path) -> None:
    with_direction = replace(bundle, repetition_direction=torch.randn(8))
    save_hub(with_direction, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert same(loaded, bundle)
    assert torch.equal(loaded.repetition_direction, with_direction.repetition_direction)  # type: ignore[arg-type]
    card = (tmp_path / "model" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: elf-lightning")
    assert "120" in card


def test_hub_folder_without_direction(bundle: ModelBundle, tmp_path: Path) -> None:
    save_hub(bundle, tmp_path)
    assert load_model(tmp_path).repetition_direction is None


def test_weights_in_a_hub_folder_are_as_readable_as_the_rest(bundle: ModelBundle, tmp_path: Path) -> None:
    save_hub(bundle, tmp_path)
    weights, config = ((tmp_path / name).stat().st_mode for name in ("model.safetensors", "config.json"))
    assert weights == config


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_of_a_hub_folder_means_the_folder(bundle: ModelBundle, tmp_path: Path, name: str) -> None:
    save_hub(bundle, tmp_path)
    assert same(load_model(tmp_path / name), bundle)


def test_golden_distill_step_student_loads_as_any_other(golden: Callable[[str], Any], tmp_path: Path) -> None:
    """A distilled model has the names and shapes of its teacher."""
    student = golden("distill_step").group("student")
    torch.save({"params": student, "ema_params1": student}, tmp_path / "checkpoint_16")
    bundle = load_model(tmp_path / "checkpoint_16")
    save_official(bundle, tmp_path / "again")
    assert equal(torch.load(tmp_path / "again", weights_only=True)["params"], student)


def test_golden_network_through_the_official_format(
    golden: Callable[[str], Any], golden_network: ELFNetwork, tmp_path: Path
) -> None:
    """The sizes are read off the official weights, and written again they are the same bit for bit."""
    official = golden("network").group("params")
    torch.save({"params": official, "ema_params1": official}, tmp_path / "checkpoint_95000")
    bundle = load_model(tmp_path / "checkpoint_95000")
    config = bundle.config
    assert config.step == 95000
    assert config.network == golden_network.config
    assert (config.latent_size, config.vocab_size) == (golden_network.latent_size, golden_network.vocab_size)
    save_official(bundle, tmp_path / "again" / "checkpoint_1")
    written = torch.load(tmp_path / "again" / "checkpoint_1", weights_only=True)
    assert equal(written["params"], official)
    assert equal(written["ema_params1"], official)
    assert same(load_model(tmp_path / "again"), bundle)


def test_golden_network_from_a_compiled_module(golden: Callable[[str], Any], tmp_path: Path) -> None:
    official = golden("network").group("params")
    for prefix in ("_orig_mod.", "module._orig_mod."):
        prefixed = {f"{prefix}{name}": value for name, value in official.items()}
        torch.save({"params": prefixed}, tmp_path / "checkpoint_1")
        torch.save({"params": official}, tmp_path / "checkpoint_2")
        assert equal(
            load_model(tmp_path / "checkpoint_1").weights, load_model(tmp_path / "checkpoint_2").weights
        )


def test_averaged_official_weights_are_preferred(bundle: ModelBundle, tmp_path: Path) -> None:
    save_official(bundle, tmp_path / "checkpoint_7")
    content = torch.load(tmp_path / "checkpoint_7", weights_only=True)
    content["params"] = {name: value * 0 for name, value in content["params"].items()}
    torch.save(content, tmp_path / "checkpoint_7")
    assert equal(load_model(tmp_path / "checkpoint_7").weights, bundle.weights)
    raw = load_model(tmp_path / "checkpoint_7", averaged=False)
    assert not any(value.any() for value in raw.weights.values())


def test_official_weights_of_other_sizes_than_the_default(tmp_path: Path, bundle: ModelBundle) -> None:
    network = replace(
        bundle.config.network,
        mlp_ratio=3.3,
        num_guidance_tokens=0,
        self_conditioning=False,
        num_time_tokens=2,
    )
    config = replace(bundle.config, network=network)
    unusual = ModelBundle(config, config.build_network().state_dict())
    save_official(unusual, tmp_path / "checkpoint_1")
    loaded = load_model(tmp_path / "checkpoint_1")
    assert equal(loaded.weights, unusual.weights)
    assert replace(loaded.config.network, mlp_ratio=3.3) == network


def test_lengths_of_an_official_model_are_given_by_the_user(
    bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elf_lightning.checkpoints.load._T5_SIZES", (8, 20))
    path = tmp_path / "checkpoint_1"
    save_official(bundle, path)
    default = load_model(path)
    pairs = load_model(path, max_length=128, max_condition_length=64)
    assert default.config.codec is not None and pairs.config.codec is not None
    assert (default.config.max_length, default.config.codec.max_length) == (1024, 1024)
    assert default.config.codec.max_condition_length is None
    assert (pairs.config.max_length, pairs.config.codec.max_length) == (128, 128)
    assert pairs.config.codec.max_condition_length == 64
    assert equal(pairs.weights, default.weights)
    assert "max_length is 1; it must be at least 2" in complaint(path, max_length=1)
    assert "give 1 to 1023, since max_length is 1024" in complaint(path, max_condition_length=1024)


def test_lengths_that_a_checkpoint_states_cannot_be_changed(bundle: ModelBundle, tmp_path: Path) -> None:
    save_hub(bundle, tmp_path)
    assert "max_length can be set only for published checkpoints" in complaint(tmp_path, max_length=4)


def test_cached_hub_model_needs_no_network(bundle: ModelBundle, tmp_path: Path) -> None:
    cached = tmp_path / "models--owner--name"
    save_hub(bundle, cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    assert same(load_model("owner/name", cache_dir=tmp_path, local_files_only=True), bundle)


# The newest of several checkpoints


def test_newest_of_a_run_is_that_of_the_highest_step(save_lightning: Any, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    newer = save_lightning(folder / "a.ckpt", global_step=10_000)
    older = save_lightning(folder / "step-900.ckpt", global_step=900)
    os.utime(newer, (1, 1))
    assert newest_checkpoint(tmp_path) == newer
    (folder / "last.ckpt").symlink_to(older.name)
    assert newest_checkpoint(tmp_path) == newer


def test_a_later_fit_is_newer_than_a_higher_step(save_lightning: Any, tmp_path: Path) -> None:
    save_lightning(tmp_path / "a.ckpt", global_step=900, fit=1)
    later = save_lightning(tmp_path / "b.ckpt", global_step=30, fit=2)
    save_lightning(tmp_path / "of an older version.ckpt", global_step=5_000)
    assert newest_checkpoint(tmp_path) == later


def test_of_several_runs_the_last_written_counts(save_lightning: Any, tmp_path: Path) -> None:
    long_ago = save_lightning(tmp_path / "long" / "checkpoints" / "a.ckpt", global_step=9_000)
    now = save_lightning(tmp_path / "short" / "checkpoints" / "a.ckpt", global_step=3)
    os.utime(long_ago, (1, 1))
    assert newest_checkpoint(tmp_path) == now


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", flipped])
def test_a_damaged_newest_is_passed_over_with_a_warning(
    save_lightning: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[bytes], bytes],
) -> None:
    sound = save_lightning(tmp_path / "step-3.ckpt", global_step=3)
    newest = save_lightning(tmp_path / "step-6.ckpt", global_step=6)
    newest.write_bytes(damage(newest.read_bytes()))
    assert newest_checkpoint(tmp_path) == sound
    assert f"passed over '{newest}': the file is" in caplog.text
    sound.write_bytes(b"")
    assert "no checkpoint in folder" in complaint(tmp_path)


def test_linked_folders_are_searched(save_lightning: Any, tmp_path: Path) -> None:
    path = save_lightning(tmp_path / "disk" / "checkpoints" / "a.ckpt")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(tmp_path / "disk")
    assert newest_checkpoint(tmp_path / "runs").samefile(path)


def test_the_last_modified_of_equals(save_lightning: Any, tmp_path: Path) -> None:
    older = save_lightning(tmp_path / "checkpoints" / "z.ckpt")
    newer = save_lightning(tmp_path / "checkpoints" / "a.ckpt")
    os.utime(older, (1, 1))
    assert newest_checkpoint(tmp_path) == newer
    os.utime(newer, (0, 0))
    assert newest_checkpoint(tmp_path) == older


def test_newest_official_is_the_highest_step(bundle: ModelBundle, tmp_path: Path) -> None:
    for step in (900, 10_000, 2_000):
        save_official(
            replace(bundle, config=replace(bundle.config, step=step)), tmp_path / f"checkpoint_{step}"
        )
    assert load_model(tmp_path).config.step == 10_000


# Files that are refused


class Trap:
    """What a malicious checkpoint holds: reading it writes a file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.witness, "your machine is mine"))


@pytest.mark.parametrize(
    "write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, 2))]
)
def test_code_in_a_checkpoint_does_not_run(
    save_lightning: Any, tmp_path: Path, write: Callable[[Any, Path], None]
) -> None:
    witness = tmp_path / "witness"
    path = save_lightning(tmp_path / "last.ckpt")
    write(torch.load(path, weights_only=True) | {"callbacks": Trap(witness)}, path)
    message = complaint(path)
    assert not witness.exists()
    assert "could run malicious code" in message
    pickle.loads(pickle.dumps(Trap(witness)))
    assert witness.exists(), "the trap works"


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").touch()
    assert "last.ckpt': the file is empty" in complaint(tmp_path / "last.ckpt")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
def test_truncated_file(save_lightning: Any, tmp_path: Path, share: float) -> None:
    path = save_lightning(tmp_path / "last.ckpt")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "damaged, truncated or not a checkpoint" in complaint(path)


def test_no_changed_byte_loads(bundle: ModelBundle, tmp_path: Path) -> None:
    """Most are in weights; what a checksum does not cover means nothing, such as padding."""
    path, whole = tmp_path / "checkpoint_1", bundle.weights
    save_official(bundle, path)
    data, refused = path.read_bytes(), 0
    places = torch.randint(len(data), (60,), generator=torch.Generator().manual_seed(0)).tolist()
    for place in places:
        path.write_bytes(flipped(data, place))
        try:
            assert equal(load_model(path).weights, whole)
        except UserError:
            refused += 1
    assert refused > 30


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_no_changed_byte_of_a_hub_folder_loads(bundle: ModelBundle, tmp_path: Path, name: str) -> None:
    save_hub(bundle, tmp_path)
    data = (tmp_path / name).read_bytes()
    for place in range(0, len(data), len(data) // 20):
        (tmp_path / name).write_bytes(flipped(data, place))
        complaint(tmp_path)
    (tmp_path / name).write_bytes(data)
    assert same(load_model(tmp_path), bundle)
    (tmp_path / "digests.json").unlink()
    assert same(load_model(tmp_path), bundle), "folders of older versions have none"


def test_a_changed_hub_folder_is_refused_in_a_line_that_names_the_file(
    bundle: ModelBundle, tmp_path: Path
) -> None:
    save_hub(bundle, tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"latent_std": 0.2', '"latent_std": 0.3'))
    assert "config.json is damaged: its content has changed; copy it again, or" in complaint(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(
    bundle: ModelBundle, save_lightning: Any, tmp_path: Path, value: float
) -> None:
    state = edited(bundle, network__latent_head__linear__bias=torch.full((8,), value))
    message = complaint(save_lightning(tmp_path / "last.ckpt", state_dict=state))
    assert "weights 'latent_head.linear.bias' are not all finite" in message


def test_weights_that_are_no_floating_point_numbers(
    bundle: ModelBundle, save_lightning: Any, tmp_path: Path
) -> None:
    state = edited(bundle, network__latent_head__linear__bias=torch.ones(8, dtype=torch.int64))
    message = complaint(save_lightning(tmp_path / "last.ckpt", state_dict=state))
    assert "are not floating-point numbers (torch.int64)" in message


def test_sizes_beyond_the_file_are_refused_before_anything_is_allocated(
    bundle: ModelBundle, save_lightning: Any, tmp_path: Path
) -> None:
    huge = torch.zeros(1).expand(2_000_000, 1_000_000)
    message = complaint(
        save_lightning(tmp_path / "last.ckpt", state_dict=edited(bundle, network__surplus=huge))
    )
    assert "declares 8,000,000,0" in message
    config = bundle.config.to_dict()
    for sizes, said in (
        ({"depth": 3_000_000}, "2 blocks instead of 3000000"),
        ({"max_length": 200_000}, "max_length is 200000"),
        ({"hidden_size": 2**62}, "impossible"),
        ({"hidden_size": 10**6}, "instead of"),
    ):
        changed = config | {"network": config["network"] | sizes}
        assert said in complaint(save_lightning(tmp_path / "last.ckpt", elf=changed)), sizes


def test_a_compressed_file_is_not_unpacked(save_lightning: Any, tmp_path: Path) -> None:
    path = save_lightning(tmp_path / "last.ckpt")
    with zipfile.ZipFile(path) as file, zipfile.ZipFile(tmp_path / "small.ckpt", "w") as small:
        for entry in file.infolist():
            small.writestr(entry.filename, file.read(entry), zipfile.ZIP_DEFLATED)
    assert "damaged, truncated" in complaint(tmp_path / "small.ckpt")


@pytest.mark.parametrize("content", [b"hello", b"\x80\x02", b"PK\x03\x04", b"\x00" * 100, b"data: 1\n"])
def test_file_of_another_kind(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes.txt").write_bytes(content)
    assert "notes.txt'" in complaint(tmp_path / "notes.txt")


@pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], {"epoch": 3}, {"params": 5}, {"params": {}}])
def test_torch_file_without_a_model(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "other.ckpt")
    assert "other.ckpt'" in complaint(tmp_path / "other.ckpt")


def test_path_that_does_not_exist() -> None:
    assert "'no/such/file.ckpt' does not exist" in complaint("no/such/file.ckpt")


def test_empty_name() -> None:
    assert "the checkpoint is an empty string" in complaint("")


def test_option_that_does_not_exist(tmp_path: Path) -> None:
    assert "no option devise, speed" in complaint(tmp_path, devise="cpu", speed=3)


def test_folder_without_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "hparams.yaml").touch()
    assert "contains no checkpoint" in complaint(tmp_path)


def test_unreachable_hub(tmp_path: Path) -> None:
    message = complaint("owner/name", cache_dir=tmp_path, endpoint="http://127.0.0.1:9")
    assert "'owner/name' is not a local file or folder" in message
    offline = complaint("owner/name", cache_dir=tmp_path, local_files_only=True)
    assert "'owner/name' is not a local file or folder" in offline


def edited(bundle: ModelBundle, **changes: Tensor | None) -> dict[str, Tensor]:
    weights = {f"network.{name}": value for name, value in bundle.weights.items()}
    for name, value in changes.items():
        if value is None:
            del weights[name.replace("__", ".")]
        else:
            weights[name.replace("__", ".")] = value
    return weights


def test_wrong_weights_are_listed(bundle: ModelBundle, save_lightning: Any, tmp_path: Path) -> None:
    state = edited(
        bundle,
        network__blocks__1__mlp__out__bias=None,
        network__surplus=torch.zeros(1),
        network__latent_head__linear__bias=torch.zeros(9),
    )
    message = complaint(save_lightning(tmp_path / "last.ckpt", state_dict=state))
    assert "1 missing: blocks.1.mlp.out.bias" in message
    assert "1 extra: surplus" in message
    assert "latent_head.linear.bias (9,) instead of (8,)" in message


def test_official_weights_with_a_missing_entry(golden: Callable[[str], Any], tmp_path: Path) -> None:
    official = golden("network").group("params")
    del official["blocks.1.attn.qkv.weight"]
    torch.save({"params": official}, tmp_path / "checkpoint_1")
    assert "1 missing: blocks.1.attention.qkv.weight" in complaint(tmp_path / "checkpoint_1")
    empty = official | {"blocks.0.attn.q_norm.weight": torch.ones(0)}
    del official["text_proj.proj1.weight"]
    for weights in (official, empty):
        torch.save({"params": weights}, tmp_path / "checkpoint_1")
        message = complaint(tmp_path / "checkpoint_1")
        assert "not the weights of an ELF network: one is missing or has a wrong shape" in message


def test_config_with_a_missing_or_unknown_entry(
    bundle: ModelBundle, save_lightning: Any, tmp_path: Path
) -> None:
    config = bundle.config.to_dict()
    config.pop("codec")
    assert "no entry 'codec'" in complaint(save_lightning(tmp_path / "a.ckpt", elf=config))
    config = bundle.config.to_dict()
    config["network"]["wings"] = 2
    assert "wings" in complaint(save_lightning(tmp_path / "b.ckpt", elf=config))
    config = bundle.config.to_dict()
    config["sampling"]["churn"] = 1.0
    assert "churn" in complaint(save_lightning(tmp_path / "c.ckpt", elf=config))
    assert "'elf' is not the description" in complaint(save_lightning(tmp_path / "d.ckpt", elf=[1]))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "bert"}, "another kind of model"),
        ({"format_version": 99}, "format_version 99"),
        ({"network": None}, "does not fit"),
        ({"codec": 3}, "does not fit"),
        ({"codec": {"tokenizer": "somewhere"}}, "no entry 'codec.encoder'"),
    ],
)
def test_hub_config_of_another_kind(
    bundle: ModelBundle, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    save_hub(bundle, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    assert said in complaint(tmp_path)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("tokenizer", 3),
        ("encoder", "bert"),
        ("kept_ids", "all"),
        ("kept_ids", [1, 2]),
        ("kept_ids", ["a"] * 20),
        ("latent_mean", [0.5]),
        ("latent_std", "0.2"),
        ("latent_std", 0.0),
        ("max_condition_length", "long"),
        ("pad_id", None),
        ("eos_id", 20),
        ("unknown_id", None),
    ],
)
def test_codec_that_does_not_fit_the_network(
    bundle: ModelBundle, tmp_path: Path, entry: str, value: Any
) -> None:
    save_hub(bundle, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["codec"][entry] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert f"the codec.{entry} {value!r:.40}, which does not fit" in complaint(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_truncated_hub_file(bundle: ModelBundle, tmp_path: Path, name: str) -> None:
    save_hub(bundle, tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    assert f"{name} is damaged" in complaint(tmp_path)
