# ruff: noqa: RUF001 (letters of many scripts)
from __future__ import annotations

import sys

import pytest
import sacrebleu
from rouge_score import rouge_scorer

from elf_lightning.errors import UserError
from elf_lightning.metrics import Bleu, MetricSuite, Rouge, bleu_tokenizer

HYPOTHESES = [
    "The Lord is my shepherd; I shall lack nothing.",
    "He makes me lie down in green pasture",
    "He leads me, beside still waters!",
    "",
    "He restores my souls.",
    "Yes",
]
REFERENCES = [
    "The LORD is my shepherd; I shall not want.",
    "He maketh me to lie down in green pastures:",
    "he leadeth me beside the still waters.",
    "Surely goodness and mercy shall follow me",
    "He restoreth my soul.",
    "Yes",
]


def bleu(texts: list[str], references: list[str], **settings: bool) -> float:
    metric = Bleu(**settings)
    metric.update(texts[:2], references[:2])
    metric.update(texts[2:], references[2:])
    return metric.compute().item()


@pytest.mark.parametrize("rows", [slice(None), slice(3, 6), slice(5, 6)])
def test_bleu_is_sacrebleus_in_both_settings(rows: slice) -> None:
    texts, references = HYPOTHESES[rows], REFERENCES[rows]
    field = sacrebleu.corpus_bleu(texts, [references], lowercase=True, use_effective_order=True)
    plain = sacrebleu.corpus_bleu(texts, [references])
    assert bleu(texts, references, lowercase=True, effective_order=True) == pytest.approx(
        field.score, rel=1e-12
    )
    assert bleu(texts, references) == pytest.approx(plain.score, rel=1e-12)


def test_both_settings_matter() -> None:
    assert bleu(HYPOTHESES, REFERENCES, lowercase=True) > bleu(HYPOTHESES, REFERENCES)
    assert bleu(["Yes"], ["Yes"], effective_order=True) == pytest.approx(100)
    assert bleu(["Yes"], ["Yes"]) == 0


@pytest.mark.parametrize(
    ("references", "tokenizer"),
    [
        (REFERENCES, "13a"),
        (["", "…"], "13a"),
        (["Кошка сидит на окне"], "13a"),
        (["今天天气很好，我们去公园散步吧", "OK"], "zh"),
        (["今日はいい天気ですね"], "char"),
        (["สวัสดีชาวโลก"], "char"),
        (["The Prime Minister of 日本 resigned"], "13a"),
    ],
)
def test_bleu_of_scripts_without_spaces_counts_characters(references: list[str], tokenizer: str) -> None:
    assert bleu_tokenizer(references) == tokenizer
    suite = MetricSuite.text_to_text(tokenize=tokenizer)
    assert f"tok:{tokenizer}" in suite.notes["BLEU"] and f"tok:{tokenizer}" in suite.notes["BLEU, cased"]
    if len(references[0]) > 1:
        assert suite(references, references)["bleu_default"] == pytest.approx(100)


def test_bleu_of_the_same_text_is_100_and_of_another_0() -> None:
    assert bleu(REFERENCES, REFERENCES) == pytest.approx(100)
    assert bleu(["x y z"] * 6, REFERENCES) == 0


def test_the_signature_tells_the_settings() -> None:
    version = sacrebleu.__version__
    field = Bleu(lowercase=True, effective_order=True)
    assert field.signature == f"nrefs:1|case:lc|eff:yes|tok:13a|smooth:exp|version:{version}"
    assert Bleu().signature == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{version}"


def test_rouge_is_rouge_scores_with_its_stemmer() -> None:
    variants = ["rouge1", "rouge2", "rougeL"]
    scorer = rouge_scorer.RougeScorer(variants, use_stemmer=True)
    scores = [scorer.score(*pair) for pair in zip(REFERENCES, HYPOTHESES, strict=True)]
    metric = Rouge()
    metric.update(HYPOTHESES[:4], REFERENCES[:4])
    metric.update(HYPOTHESES[4:], REFERENCES[4:])
    values = metric.compute()
    assert list(values) == variants
    for variant in variants:
        mean = sum(score[variant].fmeasure for score in scores) / len(scores)
        assert values[variant].item() == pytest.approx(mean, rel=1e-12)
    plain = rouge_scorer.RougeScorer(variants).score(REFERENCES[4], HYPOTHESES[4])
    assert scores[4]["rouge1"].fmeasure > plain["rouge1"].fmeasure


def rouge(text: str, reference: str) -> dict[str, float]:
    metric = Rouge()
    metric.update([text], [reference])
    return {name: value.item() for name, value in metric.compute().items()}


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        ("Привет, мир!", "привет мир", (1, 1, 1)),
        ("мир и свет", "свет и мир", (1, 0, 1 / 3)),
        ("καλημέρα κόσμε", "καλημέρα ήλιε", (1 / 2, 0, 1 / 2)),
        ("今天天气好", "今天很好", (2 * 3 / 9, 2 * 1 / 7, 2 * 3 / 9)),
        ("नमस्ते दुनिया", "नमस्ते मित्र", (1 / 2, 0, 1 / 2)),
        ("สวัสดี", "สวัสดี", (1, 1, 1)),
        ("سلام دنیا", "سلام", (2 / 3, 0, 2 / 3)),
        ("안녕 세상", "안녕 여러분", (1 / 2, 0, 1 / 2)),
        ("\u0438\u0306од", "\u0439од", (1, 0, 1)),  # the same letter in two Unicode forms
        ("Windows в мире", "в мире Windows", (1, 1 / 2, 2 / 3)),
        ("β blockers", "the β-blocker", (4 / 5, 2 / 3, 4 / 5)),
        ("コーヒー", "コーヒーです", (4 / 5, 6 / 8, 4 / 5)),
        ("۱۲ ٣ ４", "۱۲ 3 ４", (2 / 3, 0, 2 / 3)),
        ("hello world", "привет мир", (0, 0, 0)),
        ("привет мир", "hello world", (0, 0, 0)),
    ],
)
def test_rouge_compares_words_of_any_script(
    text: str, reference: str, expected: tuple[float, float, float]
) -> None:
    assert tuple(rouge(text, reference).values()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("The café’s £5 bill for ½ µg, said José™", "A cafe\u0301’s £5 bills: ½ µg, says Jose²"),
        ("Über die Brücke", "Uber die Brucke"),
        ("3,003 pairs, 26.4%", "3003 pairs: 26.4"),
        ("", "nothing"),
        ("…", "…"),
    ],
)
def test_rouge_of_latin_text_is_rouge_scores_to_the_last_digit(text: str, reference: str) -> None:
    variants = ["rouge1", "rouge2", "rougeL"]
    own = rouge_scorer.RougeScorer(variants, use_stemmer=True).score(reference, text)
    metric = Rouge()
    measured = metric.measure([text], [reference])
    assert measured == [[own[variant].fmeasure for variant in variants]]


@pytest.mark.parametrize(
    ("metric", "module", "package"),
    [(Bleu, "sacrebleu.metrics", "sacrebleu"), (Rouge, "rouge_score.rouge_scorer", "rouge_score")],
)
def test_a_missing_package_is_named(
    metric: type, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"{module} is missing .*; pip install {package}$"):
        metric()
