"""The network trainer that all rooms share; its modules load torch, so they are imported late."""
