"""The page that shows texts emerge from noise."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from elf_lightning.reporting import (
    TextPath,
    final_steps,
    shown_steps,
    trajectory_moment,
    trajectory_page,
    trajectory_picture,
)

SVG = "{http://www.w3.org/2000/svg}"

TIMES = [0.1, 0.4, 1.0]
TOKENS = [[5, 2, 7, 7], [1, 2, 7, 9], [1, 3, 7, 0]]
PIECES = [["a", " cat", " sat", " sat"], ["the", " cat", " sat", " on"], ["the", " dog", " sat", ""]]


def page(name: str = "text 0", pieces: list[list[str]] = PIECES, **details: str) -> str:
    return trajectory_page("From <noise>", details, TIMES, [TextPath(name, TOKENS, pieces)])


def data_of(content: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', content, re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


class Outline(HTMLParser):
    """Which elements and attributes a page has, and whether they close."""

    VOID = ("meta", "link", "input", "br")

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_token_is_final_after_its_last_change() -> None:
    assert final_steps(TOKENS) == [1, 2, 0, 2]


def test_token_that_came_and_went_is_final_when_it_came_back() -> None:
    assert final_steps([[4], [5], [4], [4]]) == [2]


def test_with_a_single_time_everything_is_final() -> None:
    assert final_steps([[4, 5]]) == [0, 0]


@pytest.mark.parametrize("steps", [1, 3, 64, 65, 1000])
def test_shown_steps_are_spaced_evenly_up_to_the_last(steps: int) -> None:
    shown = shown_steps(steps)
    assert shown[0] == steps - 1
    assert min(steps, 32) <= len(shown) <= 64


def test_path_has_the_pieces_of_all_its_times() -> None:
    path = TextPath.of("text 0", TOKENS, lambda row: [f" {token}" for token in row])
    assert path.pieces[1] == [" 1", " 2", " 7", " 9"]
    assert len(path.pieces) == len(TOKENS)


def test_page_holds_times_pieces_and_final_steps() -> None:
    data = data_of(page())
    assert data["times"] == TIMES
    assert data["texts"] == [
        {"final": [1, 2, 0, 2], "pieces": [PIECES[0], PIECES[1], ["the", " dog", " sat"]]}
    ]


def test_finished_text_is_there_without_scripts() -> None:
    assert '<p class="text">the dog sat</p>' in page()


def test_slider_spans_all_times() -> None:
    slider = next(attributes for tag, attributes in Outline(page()).seen if tag == "input")
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "2", "2")


def test_page_is_whole_and_asks_for_nothing_outside() -> None:
    content = page(checkpoint="last.ckpt")
    outline = Outline(content)
    assert outline.open == []
    assert not re.search(r"https?:|//[a-z]|@import|url\(", content)
    addresses = [attributes.get("src") or attributes.get("href") for _, attributes in outline.seen]
    assert {address for address in addresses if address} == {"data:,"}
    policy = [attributes for _, attributes in outline.seen if "http-equiv" in attributes]
    assert str(policy[0]["content"]).startswith("default-src 'none'")


def test_page_is_made_for_phones_and_for_the_dark() -> None:
    content = page()
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in content
    assert "prefers-color-scheme: dark" in content


def test_what_texts_say_is_shown_and_not_run() -> None:
    evil = "</script><script>alert(1)</script>"
    pieces = [[evil, "", "", ""]] * 3
    content = page(evil, pieces, source=evil)
    assert "<script>alert" not in content
    assert data_of(content)["texts"][0]["pieces"][2] == [evil]
    assert content.count("&lt;script&gt;alert(1)") == 3
    assert "<title>From &lt;noise&gt;</title>" in content


def test_dollar_signs_in_texts_are_no_placeholders() -> None:
    pieces = [["$title", "$$", "", ""]] * 3
    content = page("costs $5", pieces)
    assert data_of(content)["texts"][0]["pieces"][0] == ["$title", "$$"]
    assert "costs $5" in content


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to read the script")
def test_script_is_javascript() -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", page(), re.DOTALL)
    checked = subprocess.run(["node", "--check", "-"], input=script, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


class TestPicture:
    """`trajectory_picture`."""

    def root(self, **options: int) -> ElementTree.Element:
        return ElementTree.fromstring(trajectory_picture(TIMES, TextPath("0", TOKENS, PIECES), **options))

    def words(self, root: ElementTree.Element, kind: str) -> list[str | None]:
        return [text.text for text in root.iter(f"{SVG}text") if text.get("class") == kind]

    def test_tokens_are_dark_from_when_they_are_final(self) -> None:
        root = self.root()
        assert self.words(root, "time") == ["t = 0.10", "t = 0.40", "t = 1.00"]
        assert self.words(root, "quiet") == ["a", "cat", "sat", "cat", "on"]
        assert self.words(root, "ink") == ["sat", "the", "sat", "the", "dog", "sat"]
        shades = [rect.get("class") for rect in root.iter(f"{SVG}rect")]
        assert shades == ["card", "s0", "s1", "s0", "s1", "s3", "s0"]

    def test_the_last_time_is_among_few(self) -> None:
        assert self.words(self.root(rows=2), "time") == ["t = 0.10", "t = 1.00"]

    def test_long_texts_are_cut_after_the_last_line(self) -> None:
        pieces = [[" supercalifragilistic"] * 30]
        picture = trajectory_picture([1.0], TextPath("0", [[1] * 30], pieces), lines=2)
        words = list(ElementTree.fromstring(picture).iter(f"{SVG}text"))[1:]
        assert len(words) == 8
        assert len({word.get("y") for word in words}) == 2
        width = float(ElementTree.fromstring(picture).attrib["viewBox"].split()[2])
        assert all(float(word.attrib["x"]) + float(word.attrib["textLength"]) < width for word in words)

    def test_what_is_markup_in_a_text_is_none_in_the_picture(self) -> None:
        picture = trajectory_picture([1.0], TextPath("0", [[1]], [["<b>&"]]))
        assert self.words(ElementTree.fromstring(picture), "ink") == ["<b>&"]


def test_moment_shows_the_last_tokens_by_how_long_they_have_been_the_same() -> None:
    moment = trajectory_moment(TIMES[:2], TextPath("", TOKENS[:2], PIECES[:2]), 3, "step 2 of 3")
    text = moment[moment.index('<p class="text">') :]
    assert '<p class="text"><span>the</span> <span class="s0">cat</span> <span class="s0">sat</span>' in text
    assert " <span>on</span></p>" in text
    assert "t = 0.40" in moment
    assert "step 2 of 3" in moment
    assert "width: 67%" in moment


def test_last_moment_has_a_colour_for_every_token_as_the_picture_has() -> None:
    moment = trajectory_moment(TIMES, TextPath("", TOKENS, PIECES), 3)
    assert '<span class="s1">the</span> <span class="s3">dog</span> <span class="s0">sat</span></p>' in moment


def test_moment_escapes_its_texts() -> None:
    moment = trajectory_moment([1.0], TextPath("", [[1]], [["<img src=x>"]]), 1, "<b>")
    assert "<img" not in moment
    assert "<b>" not in moment
