"""Uploads of checkpoints, against a server with the Hub's API."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
from huggingface_hub import constants

from elf_lightning import ELF
from elf_lightning.cli import main


class Hub(BaseHTTPRequestHandler):
    """What creating a repository and committing regular files need; keeps what it is sent."""

    created: ClassVar[list[dict[str, Any]]]
    commits: ClassVar[list[dict[str, bytes]]]
    messages: ClassVar[list[str]]
    refuses: ClassVar[str]

    def do_POST(self) -> None:
        """Answers as huggingface.co does."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.refuses and self.refuses in self.path:
            self.answer({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            self.created.append(json.loads(body))
            self.answer({"url": f"{constants.ENDPOINT}/me/model"})
        elif "/preupload/" in self.path:
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            self.answer({"files": [file | {"shouldIgnore": False} for file in files]})
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            self.messages.append(lines[0]["value"]["summary"])
            files = {line["value"]["path"]: line["value"]["content"] for line in lines[1:]}
            self.commits.append({path: base64.b64decode(content) for path, content in files.items()})
            self.answer({"commitUrl": f"{constants.ENDPOINT}/me/model/commit/abc", "commitOid": "abc"})
        else:
            self.answer({"warnings": [], "errors": []})  # of the model card

    def do_GET(self) -> None:
        """Tells of an empty repository, unless it could not be made."""
        if self.refuses == "/repos/create":
            self.answer({"error": "Repository not found"}, 404)
        else:
            self.answer({"id": "me/model", "sha": "0" * 40, "siblings": []})

    def answer(self, content: dict[str, Any], status: int = 200) -> None:
        encoded = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *_: Any) -> None:
        """Prints nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    Hub.created, Hub.commits, Hub.messages, Hub.refuses = [], [], [], ""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield Hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def fit(
    tmp_path: Path, tiny_run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """A run of four steps with a checkpoint after two, which uploads."""
    monkeypatch.chdir(tmp_path)
    Path("lines.txt").write_text("\n".join(["god said let there be light"] * 40))
    settings = {
        "name": "run",
        "trainer.max_steps": 4,
        "trainer.max_epochs": -1,
        "trainer.val_check_interval": 2,
        "trainer.check_val_every_n_epoch": None,
    }
    Path("config.yaml").write_text(json.dumps(tiny_run(settings)))
    upload = ["--config", "callbacks/hub", "--trainer.callbacks.repo_id", "me/model"]
    return lambda *words: main(["fit", "--config", "config.yaml", *upload, *words])


def test_the_model_of_the_last_checkpoint_is_on_the_hub_when_training_ends(
    fit: Callable[..., int], hub: type[Hub], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit() == 0
    assert [(one["name"], one["organization"]) for one in hub.created] == [("model", "me")]
    assert hub.messages[-1] == "Step 4"
    for path, content in hub.commits[-1].items():
        file = tmp_path / "downloaded" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    downloaded, trained = (ELF.from_pretrained(tmp_path / name) for name in ("downloaded", "runs/run"))
    assert downloaded.generate(2, steps=2) == trained.generate(2, steps=2)
    assert "uploaded http://127.0.0.1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("refused", "words"),
    [("/repos/create", []), ("/branch/trial", ["--trainer.callbacks.revision", "trial"])],
)
def test_a_run_that_could_not_upload_is_refused_at_once(
    refused: str,
    words: list[str],
    fit: Callable[..., int],
    hub: type[Hub],
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.refuses = refused
    assert fit(*words) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("elf fit: HubUpload.repo_id me/model: ")
    assert "hf auth login" in line
    assert not Path("runs/run/checkpoints").exists()


def test_training_goes_on_without_the_hub(fit: Callable[..., int], hub: type[Hub]) -> None:
    hub.refuses = "/commit/"
    with pytest.warns(UserWarning, match=r"step-\d\.ckpt is not uploaded to the Hub"):
        assert fit() == 0
    assert Path("runs/run/checkpoints/last.ckpt").exists()
    assert not hub.commits
