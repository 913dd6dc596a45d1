"""The README in Chinese keeps step with the English one: the same headings, commands, recipe keys and links."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = (ROOT.joinpath(name).read_text("utf-8") for name in ("README.md", "README.zh-CN.md"))


def shape(text):
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    code = [[line.split("#")[0].rstrip() for line in body.splitlines()] for _, body in blocks]
    plain = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return {
        "levels of headings": [len(found) for found in re.findall(r"^(#+) ", plain, re.MULTILINE)],
        "code": code,
        "links": [link for link in re.findall(r"\]\(([^)#]+)\)", plain) if not link.startswith("README")],
        "rows of tables": len(re.findall(r"^\|", plain, re.MULTILINE)),
    }


def test_the_two_readmes_have_the_same_shape():
    english, chinese = shape(ENGLISH), shape(CHINESE)
    assert chinese == english
    assert len(english["code"]) >= 5 and len(english["levels of headings"]) >= 7 and len(english["links"]) >= 10


def test_its_links_lead_somewhere_and_it_is_chinese():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)?", CHINESE) if "://" not in link]
    assert len(links) >= 10 and all((ROOT / link).exists() for link in links)
    assert len(re.findall(r"[\u4e00-\u9fff]", CHINESE)) > 800 and "[中文](README.zh-CN.md)" in ENGLISH
