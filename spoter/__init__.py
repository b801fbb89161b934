"""SPOTER: names the sign in a short clip from body and hand landmarks.

One clip walks one way through this package::

    bytes --formats--> Clip --layout--> (T,K,2) --normalize--> (T,2K) --model--> logits --recognizer--> ranked glosses

Importing any module here does no work and reads no file.
"""

__version__ = "0.1.0"
