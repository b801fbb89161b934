"""SPOTER: the network, its configuration, checkpoints and model folders."""
