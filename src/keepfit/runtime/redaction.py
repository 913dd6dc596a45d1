"""Takes passwords and signatures out of what is said, saved or printed about URLs."""

from __future__ import annotations

import re

_SECRET = re.compile(
    r"((?:[?&;]|\b)(?:password|passwd|pwd|token|sig|signature|secret|api_?key|x-amz-[a-z-]+)=)[^&\s\'\"]+",
    re.IGNORECASE,
)
_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^\s\"\']*@")


def redacted(text: str) -> str:
    """A text without the passwords and the signatures of its URLs."""
    return _SECRET.sub(r"\1***", _PASSWORD.sub(r"\1***@", text))
