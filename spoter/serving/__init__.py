"""The recognizer, and the service that answers requests with it."""
