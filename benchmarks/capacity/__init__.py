"""How many servers a load needs: simulation and measurement."""
