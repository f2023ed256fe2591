"""Brings a script to the precision of a variant, bit for bit as if its author had written it so."""
