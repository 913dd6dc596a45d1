"""A command line that cannot be read: the refusal names the verb's own help, and what was probably meant."""

from __future__ import annotations

import json

import pytest

from keepfit.cli import main

MISTAKES = [
    (["run", "r.yaml", "--frsh"], "did you mean '--fresh'?", "keepfit run --help"),
    (["run", "r.yaml", "--unti", "x"], "did you mean '--until'?", "keepfit run --help"),
    (["evaluate", "a", "b", "--workspce", "x"], "did you mean '--workspace'?", "keepfit evaluate --help"),
    (["serve", "x", "--hst=3"], "did you mean '--host'?", "keepfit serve --help"),
    (["serve", "x", "--port", "abc"], "", "keepfit serve --help"),
    (["bench", "x", "--requests"], "", "keepfit bench --help"),
    (["predict", "a", "b", "-z"], "", "keepfit predict --help"),
    (["run"], "keepfit run RECIPE [KEY=VALUE]...", "keepfit run --help"),
    (["evaluate", "a"], "keepfit evaluate BUNDLE DATA [", "keepfit evaluate --help"),
    (["ledger"], "keepfit ledger RUN [", "keepfit ledger --help"),
    (["init", "a", "b"], "keepfit init DATA", "keepfit init --help"),
    (["models", "list", "a", "b"], "keepfit models [ACTION] [MODEL]", "keepfit models --help"),
    (["run", "--workspace"], "", "keepfit run --help"),
    (["evalute", "x"], "did you mean 'evaluate'?", "keepfit --help"),
    (["--quiet", "run"], "options stand behind the verb", "keepfit --help"),
    (["--jsno", "run"], "did you mean '--json'?", "keepfit --help"),
]


@pytest.mark.parametrize(("words", "near", "help_of"), MISTAKES, ids=[" ".join(words) for words, _, _ in MISTAKES])
def test_the_help_of_the_verb_and_the_nearest_name(words, near, help_of, capsys):
    assert main.run(words) == 2
    hint = capsys.readouterr().err.partition("try: ")[2]
    assert near in hint and help_of in hint
    if not near:
        assert "did you mean" not in hint


def test_what_is_near_is_said_once(capsys):
    assert main.run(["evalute", "x", "--json"]) == 2
    error = json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    assert error["message"] == "No such command 'evalute'" and error["hint"].startswith("did you mean 'evaluate'?")
