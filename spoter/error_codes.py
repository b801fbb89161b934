"""Every error code of the wire: its HTTP status, what it means, and what a client can do about it.

Clients compare codes, so that a code never changes. docs/errors.md is generated from this module by
``python -m scripts.error_table``.
"""

from enum import StrEnum
from typing import Self


class Source(StrEnum):
    """What answers with a code first; what forwards a response forwards its code."""

    SERVER = "the model server"
    COMMAND_LINE = "`spoter predict --out` and `spoter batch-pack`"
    WEB_PAGE = "the web page's server"
    LAMBDA = "the Lambda functions"


class ErrorCode(StrEnum):
    """A stable snake_case code; its value is the string that clients get.

    Attributes
    ----------
    status : int
        HTTP status of a response whose only error this is.
    meaning, remedy : str
        What was wrong with the request and what its sender can do, in Markdown, for docs/errors.md.
    source : Source
        What answers with the code.
    """

    status: int
    meaning: str
    remedy: str
    source: Source

    def __new__(cls, code: str, meaning: str, remedy: str, status: int = 400, source: Source = Source.SERVER) -> Self:
        """Make a member of its parts."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.status, member.meaning, member.remedy, member.source = status, meaning, remedy, source
        return member

    EMPTY_BODY = (
        "empty_body",
        "The body is empty or blank.",
        "Send a clip; with curl, `-T FILE` or `--data-binary @FILE`.",
    )
    BODY_TOO_LARGE = (
        "body_too_large",
        "The body has more bytes than the model takes.",
        "Send fewer frames or clips, leave out the face, or send `points` of the layout only.",
        413,
    )
    UNSUPPORTED_CONTENT_TYPE = (
        "unsupported_content_type",
        "`Content-Type` is none of the formats', or absent with a body that does not look like JSON. CSV where "
        "pandas is not installed, as in a Lambda function with the model inside.",
        "Send one of docs/formats.md.",
        415,
    )
    UNSUPPORTED_CONTENT_ENCODING = (
        "unsupported_content_encoding",
        "`Content-Encoding` says that the body is compressed.",
        "Send it as it is; `points` of the layout only are small.",
        415,
    )
    NOT_ACCEPTABLE = (
        "not_acceptable",
        "`Accept` names no type that answers come in.",
        "Ask for JSON, JSON Lines or CSV, or leave the header out.",
        406,
    )
    BAD_ATTRIBUTES = (
        "bad_attributes",
        "`X-Amzn-SageMaker-Custom-Attributes` cannot be read.",
        "Write `name=value` pairs with commas between: `top_k=3,width=640,height=480`.",
    )
    INVALID_JSON = (
        "invalid_json",
        "The body, or a line of JSON Lines, is not JSON in UTF-8. `where` names the byte.",
        "Mend the JSON. NaN and Infinity are not JSON: null marks a missing point.",
    )
    INVALID_CSV = "invalid_csv", "The body is not CSV text in UTF-8.", "Save as UTF-8, separated by commas."
    INVALID_NPY = (
        "invalid_npy",
        "The body is no .npy file, or not as long as its header says.",
        "Send what `numpy.save` writes, whole and binary.",
    )
    UNKNOWN_FORM = (
        "unknown_form",
        "The JSON object has none of the keys, or the table none of the columns, that hold a clip; or the JSON is no "
        "object.",
        'See docs/formats.md; wrap a bare list of frames: `{"keypoints": […]}`.',
    )
    AMBIGUOUS_FORM = (
        "ambiguous_form",
        "The JSON object has several of the keys of which one is expected, or others together with `describe`.",
        "Send one, or several clips under `clips`; `describe` alone.",
    )
    MIXED_FORMS = (
        "mixed_forms",
        "Frames of one clip are in the forms of different estimators.",
        "Send the frames of one estimator.",
    )
    MISPLACED_OPTION = (
        "misplaced_option",
        "`top_k`, `enrolled`, `enroll` or `describe` stands in one of several clips.",
        "Put it next to `clips`; `top_k` in the header for JSON Lines.",
    )
    WRONG_TYPE = (
        "wrong_type",
        "A value is not of the type expected: text for a number, an option out of its range, a cell that is no "
        "number, an array that is not of numbers.",
        "Send what the message says is expected.",
    )
    WRONG_SHAPE = "wrong_shape", "A NumPy array is not (frames, points, 2).", "Drop z, reshape, send one clip."
    WRONG_POINT_COUNT = (
        "wrong_point_count",
        "A frame, or a part of it, has another number of points than its estimator or layout.",
        "Send all points of the part, in order, or none.",
    )
    WRONG_FRAME_COUNT = (
        "wrong_frame_count",
        "Landmarks that are sent by name, or the cells of a row, differ in their number of frames.",
        "Send a point for every frame, null where it is missing.",
    )
    NO_FRAMES = "no_frames", "A clip has no frames.", "Send at least one."
    TOO_MANY_FRAMES = (
        "too_many_frames",
        "A clip has more frames, or a table more rows, than the model takes.",
        "Cut it to the sign, or sample it as in training.",
    )
    NO_CLIPS = "no_clips", "A request of several clips has none.", "Send at least one."
    TOO_MANY_CLIPS = "too_many_clips", "A request has more clips than the model takes.", "Send several requests."
    TOO_MANY_VALUES = (
        "too_many_values",
        "The JSON of one clip holds more lists, objects and numbers than its landmarks can be. It is counted, not "
        "read.",
        "Send landmarks only, of the frames of one sign.",
    )
    NO_USABLE_FRAMES = (
        "no_usable_frames",
        "No landmark that the model uses was found in any frame.",
        "Check that the person is in the picture, and that parts have the names expected.",
    )
    OUT_OF_RANGE = (
        "out_of_range",
        "A coordinate is infinite, or farther than 10 picture sizes from the picture; or a number is too large to be "
        "one; or very many have exponents of three digits, which take long to read.",
        "Divide pixels by the picture's size, or send `width` and `height`.",
    )
    MISSING_IMAGE_SIZE = (
        "missing_image_size",
        "Points are in pixels and the size of the picture is not said, or only half of it.",
        "Send `width` and `height`.",
    )
    UNKNOWN_ESTIMATOR = (
        "unknown_estimator",
        "`estimator` is none that is known.",
        "Send mediapipe, openpose or wholepose.",
    )
    WRONG_ESTIMATOR = (
        "wrong_estimator",
        "The points are another estimator's than the request says.",
        "Leave `estimator` out, or name the right one.",
    )
    UNKNOWN_LAYOUT = (
        "unknown_layout",
        "`layout` is none that is known.",
        "Send the model's, or an estimator's whole array.",
    )
    WRONG_LAYOUT = (
        "wrong_layout",
        "`layout` is not the one that this model is fed.",
        "Send the model's layout, or an estimator's whole array, which fits any.",
    )
    UNKNOWN_LANDMARK = (
        "unknown_landmark",
        "A landmark is sent by a name that no layout and no estimator has.",
        "Mind the spelling; docs/layouts.md lists the names.",
    )
    MISSING_LANDMARKS = (
        "missing_landmarks",
        "Landmarks that the model is fed are not sent, not even as missing.",
        "Send them, with null where they are missing.",
    )
    NO_PROTOTYPES = (
        "no_prototypes",
        "The model cannot enroll signs, nor name enrolled ones.",
        "Ask whoever runs the server for a model with prototypes: `spoter calibrate` makes them.",
    )
    BAD_GLOSS = (
        "bad_gloss",
        "The name of a sign is empty, longer than 100 letters, or has line breaks and the like in it.",
        "Send a short name on one line.",
    )
    TRAINED_GLOSS = (
        "trained_gloss",
        "A sign is to be enrolled under a name that the model was trained on.",
        "Give it another name.",
    )
    ENROLLED_OF_ANOTHER_MODEL = (
        "enrolled_of_another_model",
        "`enrolled` was made by another model, or before this one was trained again.",
        "Enroll the signs again.",
    )
    BAD_ENROLLED = (
        "bad_enrolled",
        "`enrolled` names a gloss twice, or holds what is no prototype.",
        "Send what the answer to `enroll` held, unchanged.",
    )
    TOO_MANY_ENROLLED = (
        "too_many_enrolled",
        "A request brings more glosses than the model takes, or would with the one to be enrolled.",
        "Leave out those that are not needed.",
    )
    MISSING_COLUMNS = (
        "missing_columns",
        "The table lacks columns of its form.",
        "Add them, empty where nothing is known.",
    )
    DUPLICATE_COLUMNS = "duplicate_columns", "A column comes twice, or one point in two spellings.", "Keep one."
    DUPLICATE_ROWS = (
        "duplicate_rows",
        "A long table has a landmark of one frame twice.",
        "Keep one, or tell the clips apart by a column `clip`.",
    )
    BAD_KEY = (
        "bad_key",
        "`uniqueName` is no key of a video: empty, absolute, too long, with `..` or what cannot be printed.",
        "Send the key under which the video was put into the bucket.",
    )
    NO_STORED_VIDEOS = (
        "no_stored_videos",
        "`uniqueName` where the server has no bucket of videos.",
        "Send the video itself; or set SPOTER_VIDEO_BUCKET (docs/operations.md).",
    )
    UNKNOWN_VIDEO = (
        "unknown_video",
        "The bucket has no video of that key.",
        "Put it there first; mind the spelling.",
        404,
    )
    BUCKET_REFUSED = (
        "bucket_refused",
        "The server may not read its bucket, or there is none of that name. The server's log says more.",
        "Tell who runs the server.",
        502,
    )
    BUCKET_BUSY = "bucket_busy", "S3 is not reached, overburdened or too slow.", "Try again.", 503
    VIDEO_BUSY = "video_busy", "Other videos that came at the same moment took all the time.", "Try again.", 503
    UNREADABLE_CLIP = (
        "unreadable_clip",
        "A clip's file, or its group of an HDF5 file, is missing, damaged, or of another form.",
        "Repair or remove it.",
        400,
        Source.COMMAND_LINE,
    )
    RAGGED_CSV = (
        "ragged_csv",
        "A row has more or fewer cells than the header.",
        "Mend the row; quote cells with commas.",
    )
    BAD_VIDEO = (
        "bad_video",
        "The video is no MP4, MOV, WebM, MKV or AVI file, has only sound, was cut before its index, or cannot be "
        "decoded.",
        "Record or copy it again; convert it to H.264 in MP4.",
    )
    NO_PERSON = (
        "no_person",
        "MediaPipe found nobody in any frame of the video.",
        "Let head, shoulders and hands be in the picture, lit, upright.",
    )
    VIDEO_TOO_LARGE = (
        "video_too_large",
        "The video has more bytes, or its pictures more pixels, than are read.",
        "Scale it down: 720p is plenty.",
        413,
    )
    VIDEO_TOO_LONG = "video_too_long", "The video has more seconds or frames than are read.", "Cut it to the sign.", 413
    VIDEO_TIMEOUT = (
        "video_timeout",
        "Reading the video took longer than it may.",
        "Cut it to the sign, scale it down; or ask when the server is less busy.",
    )
    INTERNAL = (
        "internal",
        "The server or the Lambda function failed, or the function is not set up. Its log says more.",
        "Try again; report it to whoever runs the server.",
        500,
    )
    OTHER_ORIGIN = (
        "other_origin",
        "The request comes from a page of another origin.",
        "Send it from the page itself.",
        403,
        Source.WEB_PAGE,
    )
    SERVER_DOWN = "server_down", "No model server answers.", "Start one.", 502, Source.WEB_PAGE
    SERVER_TIMEOUT = (
        "server_timeout",
        "The model server did not answer in time.",
        "Try again; send fewer frames.",
        504,
        Source.WEB_PAGE,
    )
    METHOD_NOT_ALLOWED = (
        "method_not_allowed",
        "The HTTP method is none of GET, POST and OPTIONS.",
        "Send POST.",
        405,
        Source.LAMBDA,
    )
    INVALID_BASE64 = (
        "invalid_base64",
        "The event says that its body is base64, and the body is not.",
        "Encode the body, or set `isBase64Encoded` to false.",
        400,
        Source.LAMBDA,
    )
    ENDPOINT_BUSY = (
        "endpoint_busy",
        "SageMaker throttled the requests to the endpoint for some 6 seconds.",
        "Try again after the seconds of `Retry-After`.",
        429,
        Source.LAMBDA,
    )
    ENDPOINT_UNAVAILABLE = (
        "endpoint_unavailable",
        "The endpoint is not ready, not reached, or its queue is full; the function retried for some 6 seconds.",
        "Try again after the seconds of `Retry-After`.",
        503,
        Source.LAMBDA,
    )
    ENDPOINT_TIMEOUT = (
        "endpoint_timeout",
        "The endpoint did not answer in time.",
        "Send fewer frames.",
        504,
        Source.LAMBDA,
    )
    ENDPOINT_FAILED = (
        "endpoint_failed",
        "The endpoint's container failed.",
        "See the endpoint's log in CloudWatch.",
        502,
        Source.LAMBDA,
    )
    ENDPOINT_REFUSED = (
        "endpoint_refused",
        "There is no such endpoint, or the function may not invoke it. With a status from 400 to 499: the container "
        "refused the request in its own words.",
        "See the function's log.",
        500,
        Source.LAMBDA,
    )
