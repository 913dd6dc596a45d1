"""Requests made from our own OpenAPI document: none ends in a 5xx or outside the document, and no wrong body is answered."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from serve_real import write_bundle

from keepfit.runtime.bundle import Bundle
from keepfit.serve.app import app_of
from keepfit.serve.service import Current
from keepfit.serve.settings import ServeSettings
from keepfit.store.record_files import FileRecords
from keepfit.store.recorder import Recorder

schemathesis = pytest.importorskip("schemathesis")


def test_requests_of_the_document_are_answered_or_refused_as_it_says(tmp_path):
    from schemathesis.checks import not_a_server_error
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi import checks

    bundle, recorder = Bundle.open(write_bundle(tmp_path / "bundle")), Recorder(FileRecords(tmp_path / "records"))
    app = app_of(Current(bundle, bundle.predictor(), ServeSettings(), recorder))
    wanted = [not_a_server_error, checks.status_code_conformance, checks.content_type_conformance]
    wanted += [checks.response_schema_conformance, checks.negative_data_rejection]
    schema, asked = schemathesis.openapi.from_asgi("/openapi.json", app), [0]
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.method.upper() != "POST":
            continue
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                asked[0] += 1
                case.call_and_validate(checks=wanted)

            ask()
    recorder.close()
    assert asked[0] >= 60
