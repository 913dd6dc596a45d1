"""Words for a command line that cannot be read: what is near, how the verb is called, and where its help is."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

from keepfit.cli.output import EVERYWHERE
from keepfit.core.errors import UsageError, nearest

_SUGGESTED = re.compile(r"\.? (Did you mean .*|\(Possible options: .*\))$", re.DOTALL)  # ours says it, under `try`


def refusal(error: Any, arguments: Sequence[str], verbs: Sequence[str]) -> UsageError:
    """An error of click as ours; it names the help of the verb that failed, and the nearest option, or the nearest of `verbs`."""
    message = _SUGGESTED.sub("", error.format_message())
    context = getattr(error, "ctx", None)
    asked = next((word for word in arguments if not word.startswith("-")), "")
    verb = context.command_path if context is not None else f"keepfit {asked}" if asked in verbs else "keepfit"
    option = getattr(error, "option_name", None)
    hint = f"{verb} --help"
    if "No such command" in message:
        hint = f"{nearest(asked, verbs)}; keepfit --help lists the verbs"
    elif option is not None and "No such option" in message and context is not None:
        hint = _near_option(str(option), context, verb)
    elif context is not None and ("argument" in message or "requires" in message):
        hint = f"{_called(context)}; {verb} --help says more"
    return UsageError("usage", message, where=f"keepfit {' '.join(arguments)}"[:200], hint=hint)


def _near_option(wrong: str, context: Any, verb: str) -> str:
    """The nearest option of the verb; one that stands before the verb and belongs behind it."""
    own = [name for parameter in context.command.params for name in (*parameter.opts, *parameter.secondary_opts)]
    known = [name[2:] for name in dict.fromkeys([*own, *EVERYWHERE, "--help"]) if name.startswith("--")]
    near = difflib.get_close_matches(wrong.lower().lstrip("-"), known, n=1, cutoff=0.65)
    found = f"did you mean '--{near[0]}'? " if near and near[0] != wrong.lstrip("-") else ""
    if hasattr(context.command, "commands"):
        return f"{found}options stand behind the verb, as in keepfit run recipe.yaml --json; keepfit --help lists the verbs"
    return f"{found}{verb} --help lists the options"


def _called(context: Any) -> str:
    """How the verb is called: its words in order, those that may be left out in brackets."""
    words = []
    for one in context.command.params:
        if one.param_type_name == "argument":
            name = one.metavar or one.name.upper()
            words.append(name if one.required or name.startswith("[") else f"[{name}]")
    return " ".join([context.command_path, *words])
