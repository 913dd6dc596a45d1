"""Models that exist already: opened without running what their files bring along, and brought into one form."""
