"""Importance is measured on the test rows, which no shipped model has learned from."""

from __future__ import annotations

import numpy as np

from keepfit.recipe.outcome import EvaluateOptions, ExplainOptions
from keepfit.stages.explain import explain
from keepfit.stages.packing import pack_table, unpack_table
from keepfit.stages.results import as_json, json_of, part_of


def test_importance_looks_at_the_test_rows_only(finished):
    files = [finished.files[name] for name in ("ingest", "split", "clean", "train")]
    table, part = unpack_table(files[0]["table"]), np.array(part_of(files[2]).tolist(), object)
    found = []
    for touched in ((), ("train", "validation"), ("test",)):
        column = table.columns["city"].copy()
        column[np.isin(part, touched)] = "elsewhere"
        changed = type(table)({**table.columns, "city": column}, table.ids)
        said = (ExplainOptions.model_validate({}), EvaluateOptions.model_validate({}), 0)
        made = explain(*said, {**files[0], "table": pack_table(changed)}, *files[1:])
        found.append({row["name"]: row["drop"] for row in json_of(made, "importance.json")})
    assert found[0] == found[1] and found[0]["city"] > 0 and found[2]["city"] == 0.0


def test_the_report_says_what_chose_and_where_importance_comes_from(finished):
    page = finished.report.read_text("utf-8")
    assert "chosen and blended by log loss" in page and "in test rows, which the model never saw" in page
    assert as_json(json_of(finished.files["evaluate"], "metrics.json"))
