"""One module of source → facts: plain data, cached, read back without LibCST."""
