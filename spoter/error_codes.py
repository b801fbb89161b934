"""Every error code of the wire format: its HTTP status, its meaning, and a remedy for the client.

Clients compare codes, so a code never changes. ``make reference`` generates docs/errors.md from this module.
"""

from enum import StrEnum
from typing import Self


class Source(StrEnum):
    """The component that first answers with a code; components that forward a response keep its code."""

    SERVER = "the model server"
    COMMAND_LINE = "`spoter predict --out` and `spoter batch-pack`"
    WEB_PAGE = "the web page's server"
    LAMBDA = "the Lambda functions"


class ErrorCode(StrEnum):
    """A stable code in snake_case; its value is the string that clients get.

    Attributes
    ----------
    status : int
        HTTP status of a response with only this error.
    meaning, remedy : str
        The fault of the request and the fix for its sender, in Markdown, for docs/errors.md.
    source : Source
        The component that first answers with the code.
    """

    status: int
    meaning: str
    remedy: str
    source: Source

    def __new__(cls, code: str, meaning: str, remedy: str, status: int = 400, source: Source = Source.SERVER) -> Self:
        """Return a member made of its parts."""
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
        "The body has more bytes than the model's limit.",
        "Send fewer frames or clips, leave out the face, or send only the layout's `points`.",
        413,
    )
    UNSUPPORTED_CONTENT_TYPE = (
        "unsupported_content_type",
        "`Content-Type` is not a format that is read here, or is absent although the body does not look like JSON. "
        "CSV needs pandas, which a Lambda function with the model inside does not have.",
        "Send one of the [formats](formats.md).",
        415,
    )
    UNSUPPORTED_CONTENT_ENCODING = (
        "unsupported_content_encoding",
        "The body is compressed (`Content-Encoding`).",
        "Send it uncompressed; the layout's `points` are small.",
        415,
    )
    NOT_ACCEPTABLE = (
        "not_acceptable",
        "`Accept` names no form that answers can have.",
        "Accept JSON, JSON Lines or CSV, or leave the header out.",
        406,
    )
    BAD_ATTRIBUTES = (
        "bad_attributes",
        "`X-Amzn-SageMaker-Custom-Attributes` cannot be read.",
        "Write `name=value` pairs, separated by commas: `top_k=3,width=640,height=480`.",
    )
    INVALID_JSON = (
        "invalid_json",
        "The body, or a line of JSON Lines, is not JSON in UTF-8. `where` names the byte.",
        "Correct the JSON. NaN and Infinity are not JSON: null marks a missing point.",
    )
    INVALID_CSV = "invalid_csv", "The body is not CSV text in UTF-8.", "Save as UTF-8, separated by commas."
    INVALID_NPY = (
        "invalid_npy",
        "The body is not a .npy file, or its length does not match its header.",
        "Send exactly the bytes that `numpy.save` writes.",
    )
    UNKNOWN_FORM = (
        "unknown_form",
        "The JSON object has no key, or the table no columns, that hold a clip; or the JSON is not an object.",
        'Send one of the [formats](formats.md); wrap a bare list of frames: `{"keypoints": […]}`.',
    )
    AMBIGUOUS_FORM = (
        "ambiguous_form",
        "The JSON object has several keys that hold a clip, or other keys next to `describe`.",
        "Send one of the keys, or several clips under `clips`; send `describe` without other keys.",
    )
    MIXED_FORMS = (
        "mixed_forms",
        "The frames of one clip have the forms of different estimators.",
        "Send the frames of one estimator.",
    )
    MISPLACED_OPTION = (
        "misplaced_option",
        "One of several clips has `top_k`, `enrolled`, `enroll` or `describe`, which apply to the whole request.",
        "Move it next to `clips`; for JSON Lines send `top_k` in the header.",
    )
    WRONG_TYPE = (
        "wrong_type",
        "A value has the wrong type: text for a number, an option out of its range, a cell that is not a number, an "
        "array that does not hold numbers.",
        "Send the type that the message names.",
    )
    WRONG_SHAPE = (
        "wrong_shape",
        "A NumPy array has another shape than (frames, points, 2).",
        "Drop z, reshape, send one clip.",
    )
    WRONG_POINT_COUNT = (
        "wrong_point_count",
        "The number of points of a frame, or of a part of it, is not that of its estimator or layout.",
        "Send all points of the part, in order, or none.",
    )
    WRONG_FRAME_COUNT = (
        "wrong_frame_count",
        "Landmarks that are sent by name, or cells of a row, have different numbers of frames.",
        "Send a point for every frame; null for a missing one.",
    )
    NO_FRAMES = "no_frames", "A clip has no frames.", "Send at least one frame."
    TOO_MANY_FRAMES = (
        "too_many_frames",
        "A clip has more frames, or a table more rows, than the model's limit.",
        "Cut it to the sign, or sample frames as in training.",
    )
    NO_CLIPS = "no_clips", "A request for several clips has no clips.", "Send at least one clip."
    TOO_MANY_CLIPS = "too_many_clips", "A request has more clips than the model's limit.", "Send several requests."
    TOO_MANY_VALUES = (
        "too_many_values",
        "The JSON of one clip has more lists, objects and numbers than landmarks can need. It was counted, not read.",
        "Send only landmarks, and only the frames of one sign.",
    )
    NO_USABLE_FRAMES = (
        "no_usable_frames",
        "No frame has a landmark that the model uses.",
        "Check that the person is in the picture, and check the names of the parts.",
    )
    OUT_OF_RANGE = (
        "out_of_range",
        "A coordinate is infinite, or more than 10 picture sizes away from the picture; a number is too large for a "
        "coordinate; or very many numbers have exponents of three digits, which are slow to read.",
        "Divide pixels by the picture's size, or send `width` and `height`.",
    )
    MISSING_IMAGE_SIZE = (
        "missing_image_size",
        "Points are in pixels, but the picture's size is missing or incomplete.",
        "Send `width` and `height`.",
    )
    UNKNOWN_ESTIMATOR = "unknown_estimator", "`estimator` is unknown.", "Send mediapipe, openpose or wholepose."
    WRONG_ESTIMATOR = (
        "wrong_estimator",
        "The points are of another estimator than the request names.",
        "Leave `estimator` out, or correct it.",
    )
    UNKNOWN_LAYOUT = (
        "unknown_layout",
        "`layout` is unknown.",
        "Send the points of the model's layout, or all points of an estimator.",
    )
    WRONG_LAYOUT = (
        "wrong_layout",
        "`layout` is not the model's.",
        "Send the points of the model's layout, or all points of an estimator, which fit any layout.",
    )
    UNKNOWN_LANDMARK = (
        "unknown_landmark",
        "No layout and no estimator has a landmark of this name.",
        "Check the spelling; [layouts](layouts.md) have the names.",
    )
    MISSING_LANDMARKS = (
        "missing_landmarks",
        "Landmarks that the model uses are absent.",
        "Send them, with null for missing points.",
    )
    NO_PROTOTYPES = (
        "no_prototypes",
        "The model has no prototypes, so it can neither enroll signs nor recognize enrolled ones.",
        "Ask the operator for a model with prototypes; `spoter calibrate` adds them.",
    )
    BAD_GLOSS = (
        "bad_gloss",
        "The name of a sign is empty, has more than 100 characters, or contains line breaks or control characters.",
        "Send a short name on one line.",
    )
    TRAINED_GLOSS = "trained_gloss", "The model was trained on a gloss of this name.", "Choose another name."
    ENROLLED_OF_ANOTHER_MODEL = (
        "enrolled_of_another_model",
        "`enrolled` was made by another model, or before this one was trained again.",
        "Enroll the signs again.",
    )
    BAD_ENROLLED = (
        "bad_enrolled",
        "`enrolled` has a gloss twice, or an invalid prototype.",
        "Send `enrolled` of the answer to `enroll` unchanged.",
    )
    TOO_MANY_ENROLLED = (
        "too_many_enrolled",
        "A request has more enrolled glosses than the model's limit, including the new one.",
        "Leave out glosses that are not needed.",
    )
    MISSING_COLUMNS = (
        "missing_columns",
        "The table lacks columns of its form.",
        "Add them; cells of missing points are empty.",
    )
    DUPLICATE_COLUMNS = "duplicate_columns", "A column occurs twice, or a point in two spellings.", "Keep one."
    DUPLICATE_ROWS = (
        "duplicate_rows",
        "A long table has a landmark of a frame twice.",
        "Keep one of them, or separate the clips with a column `clip`.",
    )
    BAD_KEY = (
        "bad_key",
        "`uniqueName` is empty, absolute or too long, or contains `..` or unprintable characters.",
        "Send the key of the video in the bucket.",
    )
    NO_STORED_VIDEOS = (
        "no_stored_videos",
        "`uniqueName` was sent, but the server has no bucket of videos.",
        "Send the video itself, or [set SPOTER_VIDEO_BUCKET](operations.md#videos-in-s3).",
    )
    UNKNOWN_VIDEO = (
        "unknown_video",
        "The bucket has no video with this key.",
        "Upload it first; check the spelling.",
        404,
    )
    BUCKET_REFUSED = (
        "bucket_refused",
        "The server may not read its bucket, or the bucket does not exist. The server's log has the cause.",
        "Report it to the operator.",
        502,
    )
    BUCKET_BUSY = "bucket_busy", "S3 cannot be reached, is overloaded or is too slow.", "Try again.", 503
    VIDEO_BUSY = "video_busy", "Other videos in the same batch used all of the time.", "Try again.", 503
    UNREADABLE_CLIP = (
        "unreadable_clip",
        "A clip's file, or its group of an HDF5 file, is missing, damaged, or has another form.",
        "Repair or remove it.",
        400,
        Source.COMMAND_LINE,
    )
    RAGGED_CSV = (
        "ragged_csv",
        "A row has more or fewer cells than the header.",
        "Correct the row; quote cells that contain commas.",
    )
    BAD_VIDEO = (
        "bad_video",
        "The file is not MP4, MOV, WebM, MKV or AVI, has only sound, was truncated before its index, or cannot be "
        "decoded.",
        "Record or copy it again; convert it to H.264 in MP4.",
    )
    NO_PERSON = (
        "no_person",
        "MediaPipe found no person in any frame of the video.",
        "Show head, shoulders and hands, upright and in good light.",
    )
    VIDEO_TOO_LARGE = (
        "video_too_large",
        "The video has more bytes, or its pictures have more pixels, than the limits.",
        "Scale it down; 720p is enough.",
        413,
    )
    VIDEO_TOO_LONG = (
        "video_too_long",
        "The video has more seconds or frames than the limits.",
        "Cut it to the sign.",
        413,
    )
    VIDEO_TIMEOUT = (
        "video_timeout",
        "Reading the video took longer than the limit.",
        "Cut it to the sign, scale it down, or try again when the server is less busy.",
    )
    INTERNAL = (
        "internal",
        "The server or the Lambda function failed, or the function is not configured. Its log has the cause.",
        "Try again; report it to the operator.",
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
        "The HTTP method is not GET, POST or OPTIONS.",
        "Send POST.",
        405,
        Source.LAMBDA,
    )
    INVALID_BASE64 = (
        "invalid_base64",
        "The event declares its body as base64, but the body is not base64.",
        "Encode the body, or set `isBase64Encoded` to false.",
        400,
        Source.LAMBDA,
    )
    ENDPOINT_BUSY = (
        "endpoint_busy",
        "SageMaker throttled the requests to the endpoint for about 6 seconds.",
        "Try again after the number of seconds in `Retry-After`.",
        429,
        Source.LAMBDA,
    )
    ENDPOINT_UNAVAILABLE = (
        "endpoint_unavailable",
        "The endpoint is not ready, cannot be reached, or has a full queue; the function retried for about 6 seconds.",
        "Try again after the number of seconds in `Retry-After`.",
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
        "The endpoint does not exist, or the function may not invoke it. With a status from 400 to 499: the container "
        "refused the request, and the message is the container's.",
        "See the function's log.",
        500,
        Source.LAMBDA,
    )
