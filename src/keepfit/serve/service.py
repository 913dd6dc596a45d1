"""A bundle at work: the model in a bounded pool of threads, with its answers counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from keepfit.core.errors import DataError
from keepfit.serve.body import read_body, unpack
from keepfit.serve.meters import Meters
from keepfit.serve.settings import ServeSettings

if TYPE_CHECKING:
    from keepfit.runtime.answers import Answers
    from keepfit.runtime.bundle import Bundle
    from keepfit.runtime.opening import Predictor
    from keepfit.runtime.table import Table


@dataclass(frozen=True)
class Service:
    """What every route needs."""

    bundle: Bundle
    predictor: Predictor
    settings: ServeSettings
    meters: Meters
    pool: ThreadPoolExecutor

    async def work(self, request: Request, answer: Callable[[bytes], Any]) -> Any:
        """Read the body on the event loop; parse, predict and write in a thread, however large it is."""
        body = await read_body(request, self.settings)
        encoding = request.headers.get("content-encoding", "")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self.pool, lambda: answer(unpack(body, encoding, self.settings.max_body_bytes))
        )

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

    def predict(self, table: Table) -> Answers:
        """Answers for every row, or DataError naming the first row that cannot be answered."""
        answers = self.predictor.predict(table)
        for row, error in enumerate(answers.errors):
            if error:
                raise DataError(
                    "row_unanswered",
                    error,
                    where=f"row {row}",
                    hint="mend this row or leave it out; null where a value is not known",
                )
        self.meters.predicted(answers)
        return answers
