"""Our server and others that serve the same Recognizer, under the same HTTP load: `make bench-peers`."""
