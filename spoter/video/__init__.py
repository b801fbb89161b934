"""Landmarks of videos, from MediaPipe Holistic in a child process with its own Python environment.

`reader.read` reads one video. `extract` implements `spoter extract`: it reads many videos, writes their landmarks with
`writers`, and lists finished files in a `manifest`. `environment` finds the child's Python, `install` creates it, and
`child` runs the child process, whose code is in `worker/`.
"""
