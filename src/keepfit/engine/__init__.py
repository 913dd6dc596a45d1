"""Turns a recipe into a plan, walks it and keeps what is already made."""
