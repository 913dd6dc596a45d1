"""`GET /docs`: one self-contained HTML page with the routes and a form to try them; it loads nothing else."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

from keepfit.serve.openapi import example_row

if TYPE_CHECKING:
    from keepfit.runtime.bundle import Bundle

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
h1{margin-bottom:0}table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;
border-bottom:1px solid #d8dee4}code,pre,textarea{font:14px/1.45 ui-monospace,monospace}
textarea{width:100%;box-sizing:border-box;height:16rem}pre{background:#f6f8fa;padding:1rem;overflow:auto;
white-space:pre-wrap}button{font:inherit;padding:.4rem 1.2rem}label{display:block;margin:.6rem 0}
"""
_SCRIPT = """
document.getElementById('ask').addEventListener('submit', async (event) => {
  event.preventDefault();
  const out = document.getElementById('answer'), token = document.getElementById('token').value;
  const headers = {'Content-Type': 'application/json'};
  if (token) headers.Authorization = 'Bearer ' + token;
  try {
    const answer = await fetch('predict', {method: 'POST', headers, body: document.getElementById('body').value});
    out.textContent = answer.status + '\\n' + JSON.stringify(await answer.json(), null, 2);
  } catch (error) { out.textContent = String(error); }
});
"""


def page(bundle: Bundle, document: dict[str, Any]) -> str:
    """The page of one bundle."""
    routes = "".join(
        f"<tr><td>{method.upper()}</td><td><code>{escape(path)}</code></td><td>{escape(operation['summary'])}</td></tr>"
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    )
    columns = "".join(
        f"<tr><td><code>{escape(column.name)}</code></td><td>{escape(column.kind)}</td>"
        f"<td>{escape(column.datatype)}</td></tr>"
        for column in bundle.inputs
    )
    question = escape(json.dumps({"input": example_row(bundle)}, indent=2, ensure_ascii=False))
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(bundle.name)}</title>
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>
<h1>{escape(bundle.name)}</h1><p>version {escape(bundle.version)} · {escape(bundle.task)} ·
<a href="openapi.json">openapi.json</a></p>
<h2>Try it</h2><form id="ask"><label for="body">POST /predict</label><textarea id="body" spellcheck="false">{question}
</textarea><label>Token, where the service has one <input id="token" type="password" autocomplete="off"></label>
<button>Ask</button></form><pre id="answer" aria-live="polite">The answer comes here.</pre>
<h2>Routes</h2><table><tr><th>Method</th><th>Path</th><th>What it does</th></tr>{routes}</table>
<h2>Columns</h2><table><tr><th>Name</th><th>Kind</th><th>Open Inference Protocol</th></tr>{columns}</table>
<script>{_SCRIPT}</script></body></html>"""
