"""The data page of the report: pictures of suspects, duplicates side by side, and the scores before and after."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from keepfit.cleaning.findings import Finding
from keepfit.runtime.picture_predictor import COLUMN
from keepfit.runtime.pictures import encode_array
from keepfit.runtime.table import Table, text_column
from keepfit.stages import data_page


def test_suspects_and_pictures_beside_their_copies_are_shown():
    pictures, ids = np.empty(6, object), np.empty(6, object)
    pictures[:] = [encode_array(np.full((8, 8, 3), 40 * n, np.uint8)) for n in range(6)]
    ids[:] = [f"{n}.png#0:{n}" for n in range(6)]
    table = Table({COLUMN: pictures, "label": text_column(list("aabbab"))}, ids)
    groups = ((ids[0], ids[3]), (ids[1], ids[4], ids[5]), (ids[2], "gone.png#0:9"))
    twice = Finding("repeats an earlier row", (), (ids[3], ids[4]), "", "", groups=groups)
    doubted = Finding("wrong_labels", ("label",), (ids[5], ids[2]), "", "")
    crossing = Finding("copies", (), (), "", "", groups=((ids[1], ids[2]),))
    found = data_page.sheets(table, [twice, doubted], [crossing])
    assert set(found) == {"suspected.png", "copies.png", "duplicates.png"}
    assert data_page.sheets(table, [], []) == {}
    seen = np.asarray(Image.open(io.BytesIO(found["duplicates.png"])).convert("L"))
    assert {0, 40, 120, 160} <= set(np.unique(seen)) and 200 not in np.unique(seen)
