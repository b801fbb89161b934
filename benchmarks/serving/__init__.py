"""Benchmarks of serving: requests in process and to servers, start time and memory."""
