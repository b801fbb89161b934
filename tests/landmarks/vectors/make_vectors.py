"""Write normalize.npz: small inputs from drawn figures, and the outputs of the original rules.

PYTHONPATH=.:tests python tests/landmarks/vectors/make_vectors.py
"""

from __future__ import annotations

import numpy as np
from test_normalize import MEDIAPIPE, VECTORS, figure, hands_missing, load_layout, select

from tests import original

vectors = {}
for layout in ("29", "54", "71"):
    points, names = select(hands_missing(seed=11)[::5], layout), list(load_layout(layout).names)
    vectors[f"points_{layout}_box_0"] = points
    vectors[f"expected_{layout}_box_0"] = original.box(original.fill(points, names), names).astype(np.float32)
points = select(figure(MEDIAPIPE, seed=12)[::5], "spoter54")
up = np.stack([points[..., 0], 1 - points[..., 1]], axis=-1)
vectors["points_spoter54_bohacek_0"] = points
vectors["expected_spoter54_bohacek_0"] = original.bohacek(up, list(load_layout("spoter54").names)).astype(np.float32)
np.savez_compressed(VECTORS, **vectors)
