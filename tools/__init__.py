"""What maintainers run by hand: `python3 -m tools.NAME`."""
