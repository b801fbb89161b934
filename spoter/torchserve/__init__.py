"""TorchServe: packing archives, starting and ending a server, replacing its model."""
