"""What `check` says of columns: the language of texts, the answers, numbers written in two ways."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from keepfit.cleaning.described import _apart, language_of, of_target, of_texts
from keepfit.cleaning.guarded import Guarded
from keepfit.modalities.tabular.schema import looked
from keepfit.runtime.table import Table, text_column


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("English", "the parcel that you sent is not in the shop, and it was late"),
        ("German", "das Paket ist nicht da, und die Tür ist auch zu"),
        ("French", "le colis n'est pas arrivé et vous ne dites pas la date"),
        ("Spanish", "el paquete no ha llegado y la tienda está cerrada por la tarde"),
        ("Chinese", "房间很干净，服务也很好，下次还会来"),
        ("Japanese", "部屋はとてもきれいで、サービスも良かったです"),
        ("Russian", "это не то что он сказал по телефону"),
        ("", "Braund Owen Harris Allen Elisabeth"),
        ("", "C.A. 2315, S.O./P.P. 3, A/5 21171, O.E. 7"),
        ("", ""),
    ],
)
def test_the_language_is_said_where_it_is_plain(language: str, text: str) -> None:
    assert language_of([text] * 3) == language
    assert (f"language: {language}" in of_texts([text])["range"]) == bool(
        language and len(text) > 0 and language_of([text])
    )


def test_the_answers_are_described_too() -> None:
    part = np.array(["train"] * 8 + ["test"] * 4, object)
    table = Table({}, np.array([f"t#{n}:{n}" for n in range(12)], object))
    classes = Guarded(table, part, np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]), 2, ("no", "yes"), "y", (), False)
    assert of_target(classes)["range"] == "no 75.0%, yes 25.0%"
    numbers = Guarded(table, part, np.arange(12.0), 0, (), "y", (), False)
    assert of_target(numbers)["range"] == "0 to 7"


def test_a_number_that_is_written_in_two_ways_counts_once() -> None:
    table = Table(
        {"x": text_column(["38.5", "38.50", "40", "40.0", "7"] * 10), "y": text_column(["a", "b"] * 25)},
        np.arange(50).astype(object),
    )
    one = looked(table, "y", {}, [])[0]
    assert one.rule.kind == "numeric" and one.distinct == 3 and one.rule.why == "numbers with 3 different values"


def test_cells_that_go_missing_are_drift():
    train, gone = Counter({"a": 200, "b": 200}), Counter({"a": 100, "b": 100, None: 200})
    apart, chance = _apart(train, gone)
    assert apart == 0.5 and chance < 1e-6
