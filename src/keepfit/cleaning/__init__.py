"""Cleaning methods, one file each: what was found in the training rows, what is proposed, what is applied."""
