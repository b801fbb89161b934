"""Compare our server with other servers of the same Recognizer, under the same HTTP load: `make bench-peers`."""
