"""The report is one harmless, complete, repeatable file; so are the card and the PNG copies."""

import re
import warnings
from html.parser import HTMLParser

import numpy as np
import pytest

from keepfit.runtime.table import text_column
from keepfit.stages.card import card_markdown
from keepfit.stages.evaluation import evaluation
from keepfit.stages.report import ReportFacts, pictures, report_html, write_plots
from keepfit.tasks.metrics import METRICS
from keepfit.tasks.task import Task

NASTY = '<script>alert("1")</script>'
TRICKS = (NASTY, '"><img src=x onerror=alert(1)>', "$x^2$ {brace} --> ]]>", "line\nbreak\x00\x1b", "&amp; 'quote'")
ALWAYS = {"splits", "target", "missing", "leaderboard", "training_curve", "importance", "slice_0"}
CLASSES = ALWAYS | {"confusion", "roc", "precision_recall", "calibration"}
NUMBERS = ALWAYS | {"residuals", "predicted_and_actual"}


def facts_of(kind, names=()):
    rng, task, rows = np.random.default_rng(0), Task(kind, NASTY, tuple(names)), 400
    if names:
        truth = rng.integers(0, len(names), rows)
        scores = rng.random((rows, len(names))) + np.eye(len(names))[truth]
        scores, baseline = scores / scores.sum(axis=1, keepdims=True), np.full_like(scores, 1 / len(names))
        summary = {str(name): int(np.sum(truth == code)) for code, name in enumerate(names)}
    else:
        truth = rng.normal(1000, 100, rows)
        scores, baseline = truth + rng.normal(0, 30, rows), np.full(rows, 1000.0)
        summary = {"0": 1.0, "0.5": 3.0, "1": 9.0}
    slices = {NASTY: text_column([("甲", NASTY, None)[number % 3] for number in range(rows)])}
    metrics, primary = METRICS[kind], METRICS[kind][0]
    seen = evaluation(task, truth, scores, baseline=baseline, slices=slices, metrics=metrics, seed=0)
    columns = [
        {
            "name": name,
            "kind": "numeric",
            "why": name,
            "missing": 0.1,
            "distinct": 3,
            "example": name,
            "used": True,
            "action": name,
        }
        for name in TRICKS
    ]
    return ReportFacts(
        name="sample",
        task=task,
        modality="tabular",
        recipe=f"# {NASTY}\nversion: 1\n",
        primary=primary,
        evaluation=seen,
        metrics={"validation": seen["metrics"], "test": seen["metrics"]},
        columns=columns,
        target_summary=summary,
        validation_curve={"metric": NASTY, "validation": [3.0, 2.5, 2.6], "best": 2},
        splits={"train": 1000, "validation": 100, "test": rows},
        rows_in=1512,
        rows_kept=1500,
        notes=[NASTY],
        ledger=[{"rule": "exact_duplicate", "stage": "clean", "count": 12, "sentence": NASTY}],
        leaderboard=[
            {"name": NASTY, "validation": 0.8, "seconds": 1.0, "chosen": True, "note": NASTY},
            {"name": "linear", "validation": None, "seconds": 1.0, "chosen": False, "note": "out of time"},
        ],
        importance=[{"name": name, "metric": primary, "drop": 0.1, "spread": 0.01} for name in TRICKS],
        model={"learner": NASTY, "size_bytes": 12345, "features": 9, "parameters": {"a": NASTY}},
    )


SAMPLES = {
    "two": (("classification", ("<=50K", NASTY)), CLASSES),
    "five": (("classification", ("猫", "狗", "兔子", "金鱼", "鹦鹉")), CLASSES),
    "many": (("classification", tuple(range(40))), CLASSES),
    "number": (("regression", ()), NUMBERS),
}


class Reader(HTMLParser):
    """Tags, attributes and ids of a page, and whether every element was closed."""

    VOID = frozenset({"meta", "br", "path", "use", "rect"})

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.ids, self.open = set(), [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        self.ids += [value for key, value in attrs if key == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module", params=SAMPLES)
def made(request):
    arguments, wanted = SAMPLES[request.param]
    facts = facts_of(*arguments)
    return facts, report_html(facts), wanted


def test_every_picture_is_there_and_described(made):
    facts, page, wanted = made
    assert {picture.name for picture in pictures(facts)} == wanted
    assert set(re.findall(r'<figure id="fig-(\w+)"', page)) == wanted
    assert page.count('role="img"') == len(re.findall(r"<title id=", page)) == len(wanted)


def test_nothing_of_the_data_becomes_markup(made):
    _, page, _ = made
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert not {"script", "img", "iframe", "link", "object", "foreignobject"} & reader.tags
    assert not [key for key, _ in reader.attributes if key.startswith("on")]
    assert len(reader.ids) == len(set(reader.ids)) > 100
    assert "\x00" not in page and "\x1b" not in page


def test_nothing_comes_from_outside(made):
    _, page, _ = made
    assert "://" not in page and "@import" not in page
    assert all(value.startswith("#") for value in re.findall(r'(?:href|src)="([^"]*)"', page))
    assert all(value.startswith("#") for value in re.findall(r"url\(([^)]*)\)", page))


def test_chinese_stays_text_in_pictures():
    page = report_html(facts_of("classification", ("猫", "狗", "兔子", "金鱼", "鹦鹉")))
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.S))
    assert all(re.search(rf"<text[^>]*>{name}</text>", drawn) for name in ("猫", "狗", "兔子", "金鱼", "鹦鹉"))


def test_dollars_are_no_formula(made):
    _, page, _ = made
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.S))
    assert len(re.findall(r"<text[^>]*>\$x\^2\$ \{brace\} --&gt; \]\]&gt;</text>", drawn)) == 2


def test_a_machine_without_chinese_fonts_is_quiet(tmp_path, monkeypatch):
    monkeypatch.setattr("keepfit.stages.plots._CJK", ())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paths = write_plots(facts_of("classification", ("猫", "狗", "兔子")), tmp_path)
    assert len(paths) == len(CLASSES)


def test_same_facts_same_bytes(made):
    facts, page, _ = made
    assert report_html(facts) == page
    assert card_markdown(facts) == card_markdown(facts)


def test_headline_and_conservation_are_said(made):
    _, page, _ = made
    assert re.search(r'class="headline">(Right for|Half of its answers)', page)
    assert "<b>1,512</b> rows in = <b>1,500</b> kept + <b>12</b> dropped" in page
    assert len(re.findall(r"<section ", page)) == 8


def test_card_is_complete_and_harmless(made):
    facts, _, _ = made
    card = card_markdown(facts)
    for heading in (
        "What it is",
        "Intended use",
        "Data",
        "How good it is",
        "Who it errs on",
        "Limits",
        "How to verify",
    ):
        assert f"## {heading}\n" in card
    assert "<script" not in card and "1,512 rows in = 1,500 kept + 12 dropped" in card


def test_png_copies(tmp_path):
    facts = facts_of("classification", ("猫", "狗", "兔子"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paths = write_plots(facts, tmp_path / "plots")
    assert {path.stem for path in paths} == CLASSES
    assert all(path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for path in paths)
    again = write_plots(facts, tmp_path / "again")
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]


def test_almost_empty_facts_still_make_a_report():
    seen = evaluation(
        Task("classification", "y", (False, True)),
        np.zeros(5, int),
        np.full((5, 2), 0.5),
        baseline=np.full((5, 2), 0.5),
        slices={},
        metrics=METRICS["classification"],
        seed=0,
    )
    facts = ReportFacts(
        name="bare",
        task=Task("classification", "y", (False, True)),
        modality="tabular",
        recipe="",
        metrics={},
        primary="roc_auc",
        evaluation=seen,
    )
    page = report_html(facts)
    assert "No groups were compared" in page and "One model was trained" in page
    assert "Judged on 5 rows only" in card_markdown(facts)
