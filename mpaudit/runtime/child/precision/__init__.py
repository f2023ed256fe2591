"""How a run gets its precision: autocast put on a script that has none, or the script's own overridden or put off."""
