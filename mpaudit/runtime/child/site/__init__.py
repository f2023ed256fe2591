"""Put on PYTHONPATH of a run as a folder; nothing imports it as a package."""
