"""A bundle at work: one `Service` per model, and `Current`, which says which of them answers the next request."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from keepfit.core.errors import DataError, KeepfitError
from keepfit.runtime.answers import class_name
from keepfit.runtime.blocks import stacked
from keepfit.runtime.predictor import Predictor as TablePredictor
from keepfit.serve import openapi, page
from keepfit.serve.batching import Batcher
from keepfit.serve.body import header, read_body, unpack
from keepfit.serve.meters import Meters
from keepfit.serve.replies import to_json
from keepfit.serve.settings import ServeSettings
from keepfit.serve.turns import Question, Ready
from keepfit.store.recorder import Answered

if TYPE_CHECKING:
    from keepfit.runtime.answers import Answers
    from keepfit.runtime.bundle import Bundle
    from keepfit.runtime.opening import Predictor
    from keepfit.runtime.table import Table
    from keepfit.store.recorder import Recorder
    from keepfit.store.sketches import Sketcher


@dataclass(frozen=True)
class Service:
    """What every route needs of one model. A request takes it once, so that version and answer are of the same model."""

    bundle: Bundle
    predictor: Predictor
    settings: ServeSettings
    meters: Meters
    batcher: Batcher
    recorder: Recorder | None = None
    sketcher: Sketcher | None = None
    classes_before: tuple[Any, ...] = ()

    @cached_property
    def labels(self) -> list[Any]:
        """What feedback may say: the classes, and those of models of before, whose answers may be told of late."""
        classes = list(self.bundle.classes)
        named = set(map(class_name, classes))
        return classes + [one for one in self.classes_before if class_name(one) not in named]

    @cached_property
    def model(self) -> dict[str, str]:
        """Name, version and hash, as every answer carries them."""
        return {"name": self.bundle.name, "version": self.bundle.version, "sha256": self.bundle.sha256}

    @cached_property
    def quick_body(self) -> Callable[[bytes, int], tuple[Table, bool] | None] | None:
        """Reads a body of a table's rows without the way over text, where that gives the same."""
        return self.predictor.quick_body if isinstance(self.predictor, TablePredictor) else None

    @cached_property
    def document(self) -> dict[str, Any]:
        """The OpenAPI document."""
        settings = self.settings
        locked = settings.token is not None
        return openapi.document(self.bundle, self.predictor.ignored, locked, self.labels, settings.new_classes)

    @cached_property
    def document_bytes(self) -> bytes:
        """The OpenAPI document as JSON."""
        return to_json(self.document)

    @cached_property
    def html(self) -> str:
        """The page of /docs."""
        return page.page(self.bundle, self.document)

    async def work(
        self,
        request: Request,
        read: Callable[[bytes], Question | Ready],
        quick: Callable[[bytes], Question | None] | None = None,
    ) -> Any:
        """Read the body on the event loop; parse, predict and write beside other questions that wait, see Batcher. `quick` reads a
        plain body in little time, or gives None."""
        body = await read_body(request, self.settings, self.batcher.heard)
        encoding, limit = header(request, b"content-encoding"), self.settings.max_body_bytes
        client = request.client.host if request.client else ""
        near = (lambda: quick(body)) if quick is not None and not encoding else None
        return await self.batcher.ask(self, client, len(body), lambda: read(unpack(body, encoding, limit)), near)

    def check_count(self, rows: int) -> None:
        """Raises DataError `rows_too_many` over the limit."""
        if rows > self.settings.max_rows:
            raise DataError(
                "rows_too_many",
                f"one request may ask about at most {self.settings.max_rows} rows",
                where="inputs",
                seen=str(rows),
                hint="send them in several requests",
            )

    def answer(self, question: Question) -> Any:
        """The reply to one question, recorded; DataError names the first row that cannot be answered."""
        answers = self.predictor.predict(question.table)
        for row, error in enumerate(answers.errors):
            if error:
                raise DataError(
                    "row_unanswered",
                    error,
                    where=f"row {row}",
                    hint="mend this row or leave it out; null where a value is not known",
                )
        self.meters.predicted(answers)
        return self._reply(question, answers)

    def answer_together(self, questions: list[Question]) -> list[Any] | None:
        """The replies to several questions from one call of the model; None, and nothing recorded, when a row has an error."""
        answers = self.predictor.predict(stacked([question.table for question in questions]))
        if any(answers.errors):
            return None
        self.meters.predicted(answers)
        replies, start = [], 0
        for question in questions:
            stop = start + len(question.table)
            replies.append(self._reply(question, answers.part(start, stop)))
            start = stop
        return replies

    def _reply(self, question: Question, answers: Answers) -> Any:
        at = time.time()
        request_id = self.new_id(len(answers), at)
        if self.recorder is not None and self.sketcher is not None:
            name, version, sha256 = self.model.values()
            self.recorder.put(
                Answered(
                    request_id, at, name, version, self.sketcher, sha256, question.table, answers, question.size_bytes
                )
            )
        return question.write(request_id, answers)

    def new_id(self, rows: int, at: float | None = None) -> str:
        """The id of an answer; one that /feedback knows again where answers are recorded."""
        return uuid.uuid4().hex if self.recorder is None else self.recorder.ids.new(rows, at)


class Current:
    """The model that answers. `swap` replaces it between two requests; those in flight keep the one that they took."""

    def __init__(
        self, bundle: Bundle, predictor: Predictor, settings: ServeSettings, recorder: Recorder | None = None
    ) -> None:
        self.settings, self.recorder = settings, recorder
        self.meters = Meters(bundle)
        if recorder is not None:
            recorder.listen(lambda what, rows: self.meters.records.labels(what).inc(rows))
        # Rows of tables hold Python's lock nearly all the time; decoding, tokenizing and large networks let go of it.
        self.batcher = Batcher(settings, self.meters, 1 if bundle.modality == "tabular" else settings.threads)
        known = recorder.classes_before(bundle.name) if recorder is not None else []
        self._classes = {class_name(one): one for one in known}
        self.service = self._service(bundle, predictor)
        self.refusal: dict[str, Any] | None = None

    def swap(self, bundle: Bundle, predictor: Predictor) -> Service:
        """Answer with another model from the next request on; gives the one before, to be freed where nobody waits."""
        made, before = self._service(bundle, predictor), self.service
        _ = made.document_bytes, made.html  # made here, not by the first who asks
        self.meters.model(bundle)
        self.service, self.refusal = made, None
        self.meters.swaps.labels("done").inc()
        return before

    def refused(self, reference: str, error: KeepfitError) -> None:
        """The model that was to come is not fit to answer: the one before goes on."""
        self.meters.swaps.labels("refused").inc()
        self.refusal = {"model": reference, "error": error.as_json()}

    def _service(self, bundle: Bundle, predictor: Predictor) -> Service:
        recorder = self.recorder
        sketcher = recorder.describe(bundle, bundle.name, bundle.version) if recorder is not None else None
        before = tuple(self._classes.values())
        self._classes |= {class_name(one): one for one in bundle.classes}
        return Service(bundle, predictor, self.settings, self.meters, self.batcher, recorder, sketcher, before)
