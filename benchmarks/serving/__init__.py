"""Serving: in process, servers, start, memory."""
