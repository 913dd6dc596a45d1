"""Rooms for one kind of input each; they do not know each other."""
