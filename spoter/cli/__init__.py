"""The command `spoter`: a module for each of its commands."""
