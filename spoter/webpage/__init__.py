"""The webcam page's server: what `demo.py` starts. The page itself is in web/."""
