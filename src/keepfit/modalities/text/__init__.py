"""Everything that is special about texts."""
