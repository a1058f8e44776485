"""The terminal: flags made from specifications, tables, progress."""
