"""Ground floor: errors, digests, options, events and atomic files; knows nothing of learning."""
