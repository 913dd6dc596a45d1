"""What a connection may cost before its request is known and after it is answered: the size of the head, the time until it is
there, how many connections there are, and replies that nobody reads.

uvicorn bounds none of them with httptools: a header without end would be held in memory, a connection that says nothing stays for
ever, and so does a large reply whose client does not read (it waits for the reply even where it closes the connection); where the
system gives no more files nobody gets a connection at all. Bodies are bounded by `keepfit.serve.body`, idle connections after an
answer by uvicorn.
"""

from __future__ import annotations

import asyncio
from typing import Any

from keepfit.core.errors import DataError
from keepfit.serve.replies import to_json
from keepfit.serve.turns import Shares

MOST_HEAD_BYTES, HEAD_S, MOST_LINES = 64 << 10, 10.0, 50_000
MOST_UNREAD_BYTES, READ_S = 256 << 20, 30.0
WHOLE = "keepfit.whole"
"""A key of the scope: the body has come as a whole, and nobody need wait for it."""
_END = b"\r\n\r\n"
_LENGTHS, _SHORTER = {b"content-length", b"transfer-encoding"}, "send a shorter request, or send it sooner"


def protocol(
    most_bytes: int = MOST_HEAD_BYTES,
    seconds: float = HEAD_S,
    most_lines: int = MOST_LINES,
    most_unread: int = MOST_UNREAD_BYTES,
    read_s: float = READ_S,
) -> type[asyncio.Protocol]:
    """uvicorn's protocol, httptools' where that is there and h11's otherwise, with these limits.

    A head over `most_bytes` gets 431, one that is not whole `seconds` after its connection or its first byte 408, a connection
    beyond `most_lines`, or beyond three quarters of them from one address, 503; all close. One that does not read its reply
    is cut off after `read_s`, or sooner where such replies come to more than `most_unread` bytes: those that wait longest first.
    """
    limited = _counted(_measured(_limited(_uvicorns(), most_bytes, seconds)), Shares(most_lines))
    return _fetched(limited, {}, most_unread, read_s)


def _limited(before: Any, most_bytes: int, seconds: float) -> type[asyncio.Protocol]:
    """The protocol, with bounds on the size of a head and the time until it is whole."""

    class Limited(before):
        """The protocol of one connection."""

        def connection_made(self, transport: Any) -> None:
            """See asyncio.Protocol."""
            super().connection_made(transport)
            self.head_bytes = 0
            self.head_timer: asyncio.TimerHandle | None = self.loop.call_later(seconds, self.head_is_late)

        def data_received(self, data: bytes) -> None:
            """See asyncio.Protocol."""
            cycle = self.cycle
            if cycle is None or cycle.response_complete:
                end = data.find(_END)
                self.head_bytes += len(data) if end < 0 else end
                if self.head_bytes > most_bytes:
                    self.close_with(431, "Request Header Fields Too Large", f"the head is over {most_bytes} bytes")
                    return
                if self.head_timer is None:
                    self.head_timer = self.loop.call_later(seconds, self.head_is_late)
            super().data_received(data)
            if self.cycle is not cycle:
                self.head_is_whole()

        def connection_lost(self, exc: Exception | None) -> None:
            """See asyncio.Protocol."""
            self.head_is_whole()
            super().connection_lost(exc)

        def head_is_whole(self) -> None:
            """Count from 0 for the next request."""
            self.head_bytes = 0
            if self.head_timer is not None:
                self.head_timer.cancel()
                self.head_timer = None

        def head_is_late(self) -> None:
            """The time is over."""
            self.head_timer = None
            self.close_with(408, "Request Timeout", f"the head did not arrive within {seconds:g} s")

        def close_with(self, status: int, phrase: str, what: str, hint: str = _SHORTER) -> None:
            """A reply in four parts, and the end of the connection."""
            if not self.transport.is_closing():
                self.transport.write(_refusal(status, phrase, what, hint))
                self.transport.close()

    return Limited


def _measured(before: Any) -> type[asyncio.Protocol]:
    """The protocol, which refuses requests of which a proxy before us may see another end than we do (request smuggling)."""

    class Measured(before):
        """The protocol of one connection."""

        def data_received(self, data: bytes) -> None:
            """See asyncio.Protocol."""
            cycle = self.cycle
            super().data_received(data)
            if self.cycle is not cycle:
                self.check_length()
            elif cycle is not None and not cycle.response_complete and not cycle.more_body:
                self.flow.pause_reading()  # of the next head no more is held until this request is answered

        def on_response_complete(self) -> None:
            """See uvicorn; h11 begins here with a request that came behind this one."""
            cycle = self.cycle
            super().on_response_complete()
            if self.cycle is not cycle:
                self.check_length()

        def check_length(self) -> None:
            """Close on a length beside chunks, and on a body that httptools would read as the next request."""
            if self.cycle is None:  # another protocol may have taken over
                return
            said = {bytes(name).lower() for name, _ in self.scope["headers"]} & _LENGTHS
            if len(said) == 2:  # CVE-2019-16785; h11 lets it pass
                self.close_with(400, "Bad Request", "the head says a length and chunks", "send one of both")
            elif said and hasattr(self, "parser") and self.parser.should_upgrade():
                what = "the head asks for another protocol, and httptools would read the body as the next request"
                self.close_with(400, "Bad Request", what, "send it as HTTP/1.1, without the header Upgrade")

    return Measured


def _uvicorns() -> Any:
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    before: Any = AutoHTTPProtocol

    class Whole(before):
        """The protocol of one connection, which tells whose body has come as a whole."""

        def on_message_complete(self) -> None:
            """See httptools; h11 has no such call."""
            super().on_message_complete()
            if self.cycle is not None and self.cycle.scope is self.scope:  # another protocol may have taken over
                self.scope[WHOLE] = not self.cycle.more_body

    return Whole


def _counted(before: Any, lines: Shares) -> type[asyncio.Protocol]:
    """The protocol, with a bound on how many connections there are."""

    class Counted(before):
        """The protocol of one connection."""

        def connection_made(self, transport: Any) -> None:
            """See asyncio.Protocol."""
            super().connection_made(transport)
            self.address = self.client[0] if self.client else ""
            self.is_counted = lines.take(self.address)
            if not self.is_counted:
                what = "there are as many connections as there may be"
                self.close_with(503, "Service Unavailable", what, "ask again after a second")

        def connection_lost(self, exc: Exception | None) -> None:
            """See asyncio.Protocol."""
            if self.is_counted:
                lines.give(self.address)
            super().connection_lost(exc)

    return Counted


def _fetched(before: Any, unread: dict[Any, int], most: int, seconds: float) -> type[asyncio.Protocol]:
    """The protocol, with a bound on replies that wait for their clients: `unread` holds their bytes, the oldest first."""

    class Fetched(before):
        """The protocol of one connection."""

        read_timer: asyncio.TimerHandle | None = None

        def pause_writing(self) -> None:
            """See asyncio.Protocol: more waits to be read than the system takes."""
            super().pause_writing()
            self.read_timer = self.loop.call_later(seconds, self.transport.abort)
            unread[self] = self.transport.get_write_buffer_size()
            while sum(unread.values()) > most and len(unread) > 1:
                oldest = next(iter(unread))
                del unread[oldest]
                oldest.transport.abort()

        def resume_writing(self) -> None:
            """See asyncio.Protocol."""
            self.forget_reply()
            super().resume_writing()

        def connection_lost(self, exc: Exception | None) -> None:
            """See asyncio.Protocol."""
            self.forget_reply()
            super().connection_lost(exc)

        def forget_reply(self) -> None:
            """It is read, or nobody is there to read it."""
            unread.pop(self, None)
            if self.read_timer is not None:
                self.read_timer.cancel()
                self.read_timer = None

    return Fetched


def _refusal(status: int, phrase: str, what: str, hint: str) -> bytes:
    error = DataError("head_refused", what, where="the headers", hint=hint)
    body = to_json({"error": error.as_json()})
    again = "retry-after: 1\r\n" if status == 503 else ""
    head = f"HTTP/1.1 {status} {phrase}\r\n{again}content-type: application/json\r\ncontent-length: {len(body)}"
    return f"{head}\r\nconnection: close\r\n\r\n".encode() + body
