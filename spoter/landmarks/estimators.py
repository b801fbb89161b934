"""Pose estimators: the number, parts and names of their points.

Points have the names that layouts use (`pose_left_wrist`, `leftHand_thumb_tip`, `face_right_jaw_up`), so a landmark has
the same name for every estimator. Face points that no layout uses are numbered within the face (`face_11`). "left" is
the signer's left hand and side, as in all three estimators.
"""

from dataclasses import dataclass, field

NECK = "pose_chest_middle_up"
"""The point between the shoulders. OpenPose detects it; for other estimators it is the mean of the shoulders."""

_HAND = ("wrist", "thumb_cmc", "thumb_mcp", "thumb_ip", "thumb_tip") + tuple(
    f"{finger}_{joint}"
    for finger in ("index_finger", "middle_finger", "ring_finger", "pinky")
    for joint in ("mcp", "pip", "dip", "tip")
)
_HANDS = {f"{side}_hand": tuple(f"{side}Hand_{point}" for point in _HAND) for side in ("left", "right")}


def _pose(points: str) -> tuple[str, ...]:
    return tuple(f"pose_{point}" for point in points.split())


def _face(size: int, named: dict[int, str]) -> tuple[str, ...]:
    return tuple(f"face_{named.get(i, i)}" for i in range(size))


def _both_sides(right: dict[str, int], left: dict[str, int]) -> dict[int, str]:
    named = {index: f"right_{name}" for name, index in right.items()}
    return named | {index: f"left_{name}" for name, index in left.items()}


# MediaPipe's face mesh. Some indices are neighbors of the usual vertex (eyebrow_inner is 55, not 107), because models
# were trained with them.
_FACE_MESH = _both_sides(
    right=dict(mouth_up=37, eyebrow_inner=55, mouth_corner=57, eyebrow_outer=70, mouth_down=84, eyebrow_middle=105,
               eye_outer=130, jaw_up=132, eye_inner=133, jaw_down=148, jaw_middle=172),
    left=dict(mouth_up=267, eyebrow_inner=285, mouth_corner=287, eyebrow_outer=300, mouth_down=314, eyebrow_middle=334,
              eye_outer=359, jaw_up=361, eye_inner=362, jaw_down=377, jaw_middle=397),
)  # fmt: skip

# The 68 points of iBUG 300-W, which OpenPose (plus two pupils) and COCO-WholeBody share. Contour 0-16: from the right
# ear over the chin to the left ear. Eyebrows 17-21 and 22-26, eyes 36-41 and 42-47: from the signer's right to left.
# Outer lips 48-59: from the right corner over the upper lip to the left corner, and back over the lower lip.
_FACE_68 = _both_sides(
    right=dict(jaw_up=3, jaw_middle=5, jaw_down=7, eyebrow_outer=17, eyebrow_middle=19, eyebrow_inner=21, eye_outer=36,
               eye_inner=39, mouth_corner=48, mouth_up=50, mouth_down=58),
    left=dict(jaw_down=9, jaw_middle=11, jaw_up=13, eyebrow_inner=22, eyebrow_middle=24, eyebrow_outer=26, eye_inner=42,
              eye_outer=45, mouth_up=52, mouth_corner=54, mouth_down=56),
)  # fmt: skip


@dataclass(frozen=True)
class Estimator:
    """A pose estimator, with the points of the arrays that it writes."""

    name: str  # in requests and in a model's config.json
    parts: dict[str, tuple[str, ...]]  # the landmarks' names in each part, in array order
    optional: tuple[str, ...] = ()  # extra columns of some data sets (MediaPipe's 544th: the neck)
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(name for part in self.parts.values() for name in part))

    @property
    def sizes(self) -> tuple[int, ...]:
        """The numbers of points that an array of this estimator may have."""
        return tuple(len(self.names) + extra for extra in range(len(self.optional) + 1))

    def names_for(self, size: int) -> tuple[str, ...]:
        """Return the names of the points in an array of `size` points; `size` is one of `sizes`."""
        return (self.names + self.optional)[:size]

    def part(self, name: str) -> slice:
        """Return the columns of part `name` in the array."""
        before = list(self.parts).index(name)
        start = sum(map(len, list(self.parts.values())[:before]))
        return slice(start, start + len(self.parts[name]))


MEDIAPIPE = Estimator(
    "mediapipe",
    {
        "pose": _pose(
            "nose left_eye_inner left_eye left_eye_outer right_eye_inner right_eye right_eye_outer left_ear right_ear "
            "mouth_left mouth_right left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist "
            "left_pinky right_pinky left_index right_index left_thumb right_thumb left_hip right_hip left_knee "
            "right_knee left_ankle right_ankle left_heel right_heel left_foot_index right_foot_index"
        ),
        "face": _face(468, _FACE_MESH),
        **_HANDS,
    },
    optional=(NECK,),
)
"""MediaPipe Holistic: 33 pose, 468 face, 21 + 21 hand points; y of the pose and hands is in the same image units."""

REFINED_FACE_POINTS = 478
"""Points of MediaPipe's refined face mesh: the usual 468, then ten points of the irises, which readers drop."""

OPENPOSE = Estimator(
    "openpose",
    {
        "pose": _pose(
            "nose chest_middle_up right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist mid_hip "
            "right_hip right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear "
            "left_big_toe left_small_toe left_heel right_big_toe right_small_toe right_heel"
        ),
        "face": _face(70, _FACE_68 | {68: "right_pupil", 69: "left_pupil"}),
        **_HANDS,
    },
)
"""OpenPose: BODY_25, 70 face, 21 + 21 hand points."""

WHOLEPOSE = Estimator(
    "wholepose",
    {
        "pose": _pose(
            "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist "
            "right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle left_big_toe left_small_toe "
            "left_heel right_big_toe right_small_toe right_heel"
        ),
        "face": _face(68, _FACE_68),
        **_HANDS,
    },
)
"""WholePose, the points of COCO-WholeBody: 17 body, 6 foot, 68 face, 21 + 21 hand points."""

ESTIMATORS = {estimator.name: estimator for estimator in (MEDIAPIPE, OPENPOSE, WHOLEPOSE)}
