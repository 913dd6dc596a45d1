"""Content-addressed artifacts, the journal of steps and runs, and the row ledger."""
