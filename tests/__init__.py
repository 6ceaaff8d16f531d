"""The tests read as facts about the product; real processes, files and sockets, no mocks of it."""
