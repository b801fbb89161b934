"""The server of the webcam page, which `spoter demo` starts. The page itself is in web/."""
