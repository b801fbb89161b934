"""Code of the child process: MediaPipe Holistic over one video. It imports nothing of the rest of spoter.

It runs as ``python -I spoter/video/worker`` in an environment that may have nothing but NumPy, OpenCV and MediaPipe.
So its modules import one another by their bare names. Only `containers` is imported by the parent, too.
"""
