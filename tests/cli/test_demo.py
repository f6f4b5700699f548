"""`elf demo`: texts on their way as HTML, the page in a browser, and the command's mistakes."""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import unescape
from itertools import islice
from threading import Event
from typing import Any

import pytest

from elf_lightning import ELF
from elf_lightning.checkpoints import ModelBundle
from elf_lightning.cli import demo, main
from elf_lightning.cli.demo import build, settle
from elf_lightning.errors import UserError
from elf_lightning.sampling import SamplingSettings

TEXTS = """[...document.querySelectorAll('.moment')].filter(one => one.offsetParent).map(
  one => one.querySelector('.text').textContent.trim())"""
CLICK = """((label, chosen) => {
  const button = [...document.querySelectorAll(chosen)].find(
    button => button.offsetParent && button.textContent.trim() === label);
  button?.click();
  return button !== undefined;
})"""
TYPE = """(text => {
  const box = [...document.querySelectorAll('textarea')].find(box => box.offsetParent);
  Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value').set.call(box, text);
  box.dispatchEvent(new Event('input', { bubbles: true }));
  return true;
})"""


@pytest.fixture
def model(bundle: ModelBundle) -> ELF:
    return ELF(bundle, "cpu")


def text_of(moment: str) -> str:
    """The text of an HTML fragment."""
    return unescape(re.sub("<[^>]*>", "", moment[moment.index('<p class="text">') :])).strip()


def test_the_last_moment_is_the_text_of_elf_sample(model: ELF) -> None:
    moments = list(settle(model, seed=3, steps=5, guidance=1.5))
    assert len(moments) == 5
    assert "step 1 of 5" in moments[0]
    assert "t = 1.00" in moments[-1]
    assert text_of(moments[-1]) == model.generate(seed=3, steps=5, guidance=1.5)[0]
    assert len({*map(text_of, moments)}) > 1


def test_a_prompt_is_continued_and_blanks_are_filled_in(model: ELF) -> None:
    *_, continued = settle(model, "god created")
    assert text_of(continued) == model.generate(prompts=["god created"])[0]
    *_, filled = settle(model, "god _ _ earth")
    assert text_of(filled) == model.generate(infill=["god _ _ earth"])[0]


def test_many_steps_are_shown_as_some(model: ELF) -> None:
    moments = list(settle(model, steps=100))
    assert len(moments) == 50
    assert "step 100 of 100" in moments[-1]


def test_a_closed_iterator_ends_sampling(model: ELF, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    hidden = model.network.hidden
    monkeypatch.setattr(model.network, "hidden", lambda *given: (calls.append(1), hidden(*given))[1])
    moments = settle(model, steps=2000)
    assert len(list(islice(moments, 2))) == 2
    moments.close()
    made = len(calls)
    assert made < 2000
    assert text_of([*settle(model)][-1]) == model.generate()[0]


@pytest.mark.parametrize(
    ("text", "settings", "expected"),
    [
        ("god", {"steps": 0}, "sampling.steps is 0; it must be at least 1"),
        ("god " * 12, {}, "has 12 tokens; give 1 to 11 for this model"),
        ("god _" * 20, {}, "more than the model's 12; shorten it"),
    ],
)
def test_mistakes_are_user_errors(model: ELF, text: str, settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=re.escape(expected)):
        list(settle(model, text, **settings))


def test_without_gradio_one_line_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("elf demo: gradio is missing")
    assert line.endswith("pip install 'elf_lightning[demo]'")


def test_a_taken_port_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", sys)  # is not used before
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["demo", "--port", str(port)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"elf demo: --host 127.0.0.1 --port {port}: Address already in use; choose another"
    assert main(["demo", "--port", "70000"]) == 2
    assert "--port 70000" in capsys.readouterr().err


def test_it_is_open_to_this_machine_only_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRADIO_SERVER_NAME", raising=False)
    assert demo._parser().parse_args([]).host == "127.0.0.1"
    assert demo._parser().parse_args(["--host", "0.0.0.0"]).host == "0.0.0.0"


def test_a_space_says_where_to_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    monkeypatch.setenv("GRADIO_SERVER_PORT", "7861")
    options = demo._parser().parse_args([])
    assert (options.host, options.port) == ("0.0.0.0", 7861)


def test_only_changed_settings_override_the_model(model: ELF) -> None:
    own = demo._own(model)
    assert own == {"steps": 4, "guidance": 3.0, "gamma": 1.5, "repetition_control": 0.0}
    assert demo._changed(model, [*own.values()]) == {}
    assert demo._changed(model, (8.0, 2, 1.5, 0)) == {"steps": 8, "guidance": 2.0}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[ELF], str]]:
    """Serves the page of a model and tells its address."""
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    pytest.importorskip("gradio", reason="not installed: pip install 'elf_lightning[demo]'")
    pages = []

    def serve(model: ELF) -> str:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        pages.append(build(model))
        demo.serve(pages[-1], "127.0.0.1", port, prevent_thread_lock=True)
        return f"http://127.0.0.1:{port}/"

    yield serve
    for page in pages:
        page.close()


def wait(browser: Any, script: str, expected: Any = True) -> None:
    """Wait, for a minute at most, until an expression in the page has this value."""
    end = time.monotonic() + 60
    while (found := browser.run(script)) != expected:
        assert time.monotonic() < end, found
        time.sleep(0.05)


def press(browser: Any, label: str, chosen: str = "button") -> None:
    wait(browser, f"{CLICK}({json.dumps(label)}, {json.dumps(chosen)})")


@pytest.mark.slow
def test_a_model_that_answers_prompts_is_offered_no_templates(
    bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    pytest.importorskip("gradio", reason="not installed: pip install 'elf_lightning[demo]'")
    assert bundle.config.codec is not None
    codec = replace(bundle.config.codec, max_condition_length=2)
    answering = replace(bundle, config=replace(bundle.config, codec=codec))
    for shown, offered in ((bundle, True), (answering, False)):
        page = str(build(ELF(shown, "cpu")).get_config_file()["components"])
        assert (demo.HINT in page, demo.EXAMPLES[1] in page) == (offered, offered)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(390, True), (1200, False)])
def test_in_a_browser(browser: Any, served: Callable[[ELF], str], model: ELF, width: int, dark: bool) -> None:
    address = served(model)
    browser.requests.clear()
    browser.open(address, width, dark=dark)
    press(browser, "Generate")
    wait(browser, TEXTS, [model.generate()[0]])
    assert browser.run("document.documentElement.scrollWidth") == width

    wrote = "<img src=x onerror=document.title=1>${2}" + " {{value}} @children" * 9
    wait(browser, f"{TYPE}({json.dumps(wrote)})")
    press(browser, "Generate")
    wait(browser, "document.querySelector('.gradio-container').innerText.includes('title=1>${2}')")
    assert browser.run("document.querySelectorAll('img[src=x]').length") == 0
    assert browser.run("document.title") == "Text from noise"

    press(browser, "Side by side", "[role=tab]")
    press(browser, "Compare")
    wait(browser, TEXTS, [model.generate()[0], model.generate(steps=1)[0]])
    assert browser.run("document.documentElement.scrollWidth") == width
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith((address, "data:", "blob:"))] == []


@pytest.mark.slow
def test_the_stop_button_ends_sampling(
    browser: Any, served: Callable[[ELF], str], bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(bundle.config, sampling=SamplingSettings(steps=128))
    model, calls, ended = ELF(replace(bundle, config=config), "cpu"), [], Event()
    hidden = model.network.hidden

    def slow(*given: Any) -> Any:
        calls.append(time.sleep(0.1))
        return hidden(*given)

    def watched(*given: Any, **settings: Any) -> Iterator[str]:
        try:
            yield from settle(*given, **settings)
        finally:
            ended.set()

    monkeypatch.setattr(model.network, "hidden", slow)
    monkeypatch.setattr(demo, "settle", watched)
    browser.open(served(model), 1200)
    press(browser, "Generate")
    wait(browser, f"{TEXTS}.length", 1)
    press(browser, "Stop")
    assert ended.wait(30)
    assert len(calls) < 128
