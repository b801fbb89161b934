"""Face meshes are removed from a body before decoding, without an effect on the rest of the body."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchmarks.load.bodies import full_request
from spoter.errors import InputError
from spoter.formats import Limits, body_guards, decode
from spoter.formats.body_guards import remove_face_meshes
from spoter.landmarks.layouts import load_layout

KEY = "face_landmarks"
TEXTS = st.sampled_from([KEY, "]", "[", '"', "\\", f'"{KEY}":[', "x", ""]) | st.text(max_size=5)
VALUES = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def emptied(value: object) -> object:
    """Return a JSON value with an empty array for each array under `KEY`."""
    if isinstance(value, dict):
        return {key: [] if key == KEY and isinstance(item, list) else emptied(item) for key, item in value.items()}
    return [emptied(item) for item in value] if isinstance(value, list) else value


@given(VALUES | st.fixed_dictionaries({KEY: st.lists(VALUES)}), st.sampled_from([None, 1]), st.booleans())
@example({KEY: ["]"], "x": 1}, None, True)
@example({KEY: ['"]', 'a"'], "x": 1}, None, True)
@example({KEY: [{"x": [1]}, 2], "x": 1}, None, True)
@example([{f'"{KEY}': [1, 2]}, KEY, [3]], None, True)
def test_the_rest_of_a_body_does_not_change(value, indent, ascii_only):
    body = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    assert emptied(json.loads(remove_face_meshes(body))) == emptied(json.loads(body))


def test_flat_arrays_of_points_are_removed():
    body = full_request(3)
    shorter = remove_face_meshes(body)
    assert json.loads(shorter) == emptied(json.loads(body)) and len(shorter) < len(body) / 5
    assert remove_face_meshes(shorter.replace(b'"face', b'"phase')).find(b"phase") > 0


@pytest.mark.parametrize(
    "body",
    [b"", b'"face_landmarks"', b'{"face_landmarks":[', b'{"face_landmarks":null}', b'{"a\\"face_landmarks":[1]}'],
)
def test_anything_but_a_complete_array_stays(body):
    assert remove_face_meshes(body) is body


@pytest.mark.parametrize("first", [b'{"face_landmarks":[1]}', b'{"a\\"face_landmarks":[1]}', b'{"face_landmarks":1}'])
def test_at_most_max_faces_keys_are_examined(monkeypatch, first):
    monkeypatch.setattr(body_guards, "MAX_FACES", 3)
    faces = b'{"face_landmarks":[1]}'
    assert remove_face_meshes(first * 2 + faces * 2).endswith(b'{"face_landmarks":[]}' + faces)
    assert remove_face_meshes(first * 3 + faces).endswith(faces)


def test_only_layouts_with_a_face_read_the_face():
    body = full_request(2).replace(b'"face_landmarks": [{"x": ', b'"face_landmarks": [{"x": NaN, "w": ', 1)
    assert len(decode(body, "application/json", load_layout("54"), Limits()).clips[0]) == 2
    with pytest.raises(InputError, match="NaN"):
        decode(body, "application/json", load_layout("71"), Limits())


def test_errors_have_positions_in_the_original_body():
    body, errors = full_request(2) + b"}", []
    for layout in ("54", "71"):
        with pytest.raises(InputError) as raised:
            decode(body, "application/json", load_layout(layout), Limits())
        errors.append((raised.value.code, str(raised.value), raised.value.where))
    assert errors[0] == errors[1]
