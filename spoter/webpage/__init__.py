"""The webcam page's server: what `spoter demo` starts. The page itself is in web/."""
