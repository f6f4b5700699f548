"""Inputs that are nearly right: valid ones, changed in one to three places, or damaged as files."""

from __future__ import annotations

import gzip
import json
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elf_lightning.cli import main
from elf_lightning.errors import UserError
from elf_lightning.terminal import printable

MEMORY = 6 * 2**30
"""Bytes that a test may take beyond those that the process has."""
SECONDS = 300
"""After which an input counts as one that does not end."""
LONGEST = 2_500
"""Characters of a line."""
DEEP = "<deep>"
"""Stands for a list in lists, deeper than any parser goes."""
VALUES = [
    *(None, True, False, 0, 1, -1, 3, 0.5, -0.5, 1e-320, 1e308, 2**31, 2**40, 2**63, -(2**63), 10**30),
    *(float("nan"), float("inf"), float("-inf")),
    *(
        "",
        " ",
        "a",
        "0",
        "null",
        "nan",
        "\0",
        "\x1b[31m\u202e",
        "é",
        "\U0001f600",
        "\ud800",
        "../up",
        "%s {}",
    ),
    *("x" * 10_000, "file\nname", "none/such", "package:none/such", "[1, 2", "{", DEEP),
    *([], {}, [None], [[]], [0], ["a"], [-1, 2**40], {"": None}, {"a": {"b": []}}, {"class_path": "a.B"}),
]
OTHER_FILES = [
    b"", b"\n", b"\0" * 100, b"\xff\xfe", b"\xef\xbb\xbf", b"\x89PNG\r\n\x1a\n\0\0", b"PK\x03\x04\0\0", b"[]",
    b"{}", b"null", b"1e999", b'"text"', b"- a\n- b\n", b"a: 2024-13-45", b"a: &a [*a]", b"NaN",
    b"\x80\x02}q\0.", gzip.compress(b"text"), gzip.compress(b"text")[:-3],
]  # fmt: skip
"""Whole contents of other kinds of files."""
INSERTED = [
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\r",
    b"\x1b[2J",
    b"}",
    b"]",
    b'"',
    b"{",
    b"\\u",
    b"9" * 400,
    b": ",
]
CHANGES = ["value"] * 3 + ["delete", "wrap", "number", "text", "swap", "rename", "add"]


class Endless(BaseException):
    """No error of the input, which the code under test might catch."""


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each container and key of a tree of dictionaries and lists."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


def copied(value: Any) -> Any:
    """The tree with new containers and the same leaves."""
    if isinstance(value, dict):
        return {key: copied(one) for key, one in value.items()}
    return [copied(one) for one in value] if isinstance(value, list) else value


class Nearly:
    """Changes valid inputs as hypothesis draws; its examples shrink to few and small changes.

    Args:
        data: where the choices come from.
    """

    def __init__(self, data: st.DataObject) -> None:
        self.data = data

    def one_of(self, *values: Any) -> Any:
        return copied(self.data.draw(st.sampled_from(values)))

    def changed(self, value: Any) -> Any:
        """A tree with one to three changes."""
        root = [copied(value)]
        for _ in range(self.one_of(1, 2, 3)):
            every = list(places(root))
            container, key = self.data.draw(st.sampled_from(every))
            old = container[key]
            match self.one_of(*CHANGES):
                case "delete" if container is not root:
                    del container[key]
                case "wrap":
                    container[key] = self.one_of([old], {"a": old}, [old, old])
                case "number" if type(old) in (int, float):
                    container[key] = self.one_of(-old, old + 0.5, old * 10**6, old + 1, old - 1, 2 * old)
                case "text" if not isinstance(old, dict | list):
                    container[key] = str(old)
                case "swap":
                    other, where = self.data.draw(st.sampled_from(every))
                    container[key] = copied(other[where])
                case "rename" if isinstance(container, dict):
                    container[self.one_of("", "a", "é", "class_path", f"{key}s")] = container.pop(key)
                case "add" if isinstance(old, dict):
                    old[self.one_of("", "a", "\0", "class_path", "init_args")] = self.one_of(*VALUES)
                case _:
                    container[key] = self.one_of(*VALUES)
        return root[0]

    def damaged(self, content: bytes) -> bytes:
        """Content that is cut, has other bytes in it, is encoded otherwise, or of another kind of file."""
        start, end = sorted(self.data.draw(st.integers(0, len(content))) for _ in range(2))
        return self.one_of(
            content[:start],
            content[:start] + content[end:],
            content[:start] + self.one_of(*INSERTED) + content[start:],
            content[:start] + bytes(byte ^ 4 for byte in content[start : start + 1]) + content[start + 1 :],
            content + content,
            content.decode("utf-8", "replace").encode("utf-16"),
            self.one_of(*OTHER_FILES),
        )

    def json(self, value: Any) -> bytes:
        """JSON of a changed tree or, one time in four, of the valid one, damaged."""
        return (
            self.as_json(self.changed(value))
            if self.one_of(1, 1, 1, 0)
            else self.damaged(self.as_json(value))
        )

    @staticmethod
    def as_json(value: Any) -> bytes:
        """JSON, with what `DEEP` stands for."""
        return json.dumps(value).replace(json.dumps(DEEP), "[" * 100_000 + "]" * 100_000).encode()

    def safetensors(self, content: bytes) -> bytes:
        """A file of safetensors with a changed header or, one time in four, damaged."""
        if self.one_of(0, 1, 1, 1) == 0:
            return self.damaged(content)
        end = 8 + int.from_bytes(content[:8], "little")
        header = self.as_json(self.changed(json.loads(content[8:end])))
        return len(header).to_bytes(8, "little") + header + content[end:]

    def file(self, path: Path) -> None:
        """Change a file in its place."""
        content = path.read_bytes()
        if path.suffix == ".json":
            path.write_bytes(self.json(json.loads(content)))
        else:
            path.write_bytes((self.safetensors if path.suffix == ".safetensors" else self.damaged)(content))


@pytest.fixture(params=["few", pytest.param("many", marks=pytest.mark.slow)])
def fuzz(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Runs a check on the same inputs every time: on a few and, in the slow tests, on many."""

    def run(check: Callable[[Nearly], None], **counts: int) -> None:
        fixed = {"derandomize": True, "database": None, "deadline": None}
        count = settings(max_examples=counts[request.param], suppress_health_check=list(HealthCheck), **fixed)
        count(given(st.data())(lambda data: check(Nearly(data))))()

    return run


@pytest.fixture(autouse=True)
def bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Works in an empty folder, with an end to memory and time."""

    def endless(*_: object) -> None:
        raise Endless(f"no end after {SECONDS} seconds")

    folder = tmp_path / "deep" / "work"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    memory, alarm = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGALRM, endless)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, memory[1]))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, alarm)
    resource.setrlimit(resource.RLIMIT_AS, memory)


@pytest.fixture
def works_or_one_line(capfd: pytest.CaptureFixture[str]) -> Callable[[list[str] | Callable[[], Any]], None]:
    """Runs a command, or a function: it works, or says what is wrong in one line."""

    def run(tried: list[str] | Callable[[], Any]) -> None:
        capfd.readouterr()
        signal.alarm(SECONDS)
        if callable(tried):
            try:
                tried()
            except UserError as error:
                assert str(error).strip(), "an error without a message"
            return
        status, printed = main(tried), capfd.readouterr().err
        assert status in (0, 2), printed
        assert "Traceback" not in printed and "panicked" not in printed, printed
        lines = [line for line in printed.splitlines() if line.startswith(f"elf {tried[0]}: ")]
        assert len(lines) == (status == 2), printed
        assert all(printable(line) == line and len(line) < LONGEST for line in lines), printed

    return run


@pytest.fixture(scope="session")
def trained(
    tiny_run: Callable[[dict[str, Any]], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The checkpoint of a run of two steps."""
    folder = tmp_path_factory.mktemp("trained")
    changes = {
        "trainer.max_steps": 2,
        "trainer.logger": False,
        "data.restrict_vocabulary": True,
        "model.sampling.steps": 2,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("lines.txt").write_text("in the beginning god created heaven and earth\n" * 20)
        Path("config.json").write_text(json.dumps(tiny_run(changes)))
        assert main(["fit", "--config", "config.json"]) == 0
    return (folder / "runs/elf/checkpoints/last.ckpt").resolve()


@pytest.fixture(scope="session")
def hub(trained: Path) -> Path:
    """The same model as a Hub folder."""
    folder = trained.parent / "hub"
    assert main(["convert", str(trained), str(folder), "--format", "hub"]) == 0
    return folder


@pytest.fixture(scope="session")
def official(trained: Path) -> Path:
    """The same model as a checkpoint of the official code."""
    file = trained.parent / "checkpoint_2"
    assert main(["convert", str(trained), str(file), "--format", "official"]) == 0
    return file
