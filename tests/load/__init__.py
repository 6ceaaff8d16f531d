"""What takes a minute or more and many connections: `python -m tests.load.NAME`."""
