"""Code of the child process: MediaPipe Holistic on one video. It imports nothing else of spoter.

It runs as ``python -I spoter/video/worker`` in an environment that may hold only NumPy, OpenCV and MediaPipe. Its
modules therefore import one another by their bare names. The parent imports only `containers`.
"""
