"""One file per group of verbs: parse, call `api`, print; the only place that prints or exits."""
