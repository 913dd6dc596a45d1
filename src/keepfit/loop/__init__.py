"""Closes the circle: watch, decide, run again, compare, promote or roll back."""
