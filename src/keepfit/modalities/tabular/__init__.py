"""All that is special about tables."""
