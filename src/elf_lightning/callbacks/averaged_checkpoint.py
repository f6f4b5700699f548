"""Averaged weights in checkpoints of weights alone.

Lightning calls no callback when it saves with `save_weights_only`, so the weights are replaced while they are
written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch.plugins.io import CheckpointIO

StateDict = dict[str, Any]


class AveragedCheckpointIO(CheckpointIO):
    """Wraps another plugin, and writes averaged weights.

    Args:
        inner: the plugin that reads and writes.
        averaged_state: maps the state dict of a module to the same one with averaged weights.
    """

    def __init__(self, inner: CheckpointIO, averaged_state: Callable[[StateDict], StateDict]) -> None:
        self.inner = inner
        self.averaged_state = averaged_state

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint; a complete one has been changed by the callback already."""
        if "state_dict" in checkpoint and "averaging_state" not in checkpoint:
            checkpoint = {**checkpoint, "state_dict": self.averaged_state(checkpoint["state_dict"])}
        self.inner.save_checkpoint(checkpoint, path, storage_options)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Reads a checkpoint, as `inner` does."""
        return self.inner.load_checkpoint(path, *args, **kwargs)

    def remove_checkpoint(self, path: Any) -> None:
        """Removes a checkpoint, as `inner` does."""
        self.inner.remove_checkpoint(path)

    def teardown(self) -> None:
        """Ends the work of `inner`, such as saving in the background."""
        self.inner.teardown()
