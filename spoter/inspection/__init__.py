"""`spoter show`: what a clip holds, and pictures of it."""
