"""Operating a server: checks, readiness, tokens, archives."""
