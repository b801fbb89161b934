# %% [markdown]
# # From a clip to a gloss
#
# Start a server first, with `make serve`. Run this file as it is, from the repository's root, or cell by cell: VS Code
# and Jupyter (by way of jupytext) open it as a notebook.

# %%
import os

import numpy as np

from spoter.client import Client, InputError, NoAnswerError

url = os.environ.get("SPOTER_URL", "http://127.0.0.1:8080")
client = Client(url)

# %% [markdown]
# ## What does the server know?
#
# The signs it can name, the landmarks its model is fed, and how much it takes at once.

# %%
about = client.describe()
print(f"{about.name} {about.version} knows {len(about.glosses)} signs: {', '.join(about.glosses)}")
print(
    f"It is fed {len(about.layout.landmarks)} landmarks of {about.estimator}, at most {about.limits.max_frames} frames."
)

# %% [markdown]
# ## A clip
#
# A clip is an array of frames, landmarks and coordinates. x and y are fractions of the picture, y points down, and a
# landmark that was not found is NaN. This one is a NumPy file with the model's own 54 landmarks; an estimator's whole
# array (543 points of MediaPipe Holistic, 137 of OpenPose, 133 of COCO-WholeBody) does as well.

# %%
points = np.load("samples/software.npy")
names = about.layout.landmarks
found = ~np.isnan(points).any(axis=2)
print(f"{points.shape[0]} frames, {points.shape[1]} landmarks, {found.mean():.0%} of them found")

wrist = points[:, names.index("pose_right_wrist")]
print(f"The right wrist goes from y = {np.nanmax(wrist[:, 1]):.2f} up to y = {np.nanmin(wrist[:, 1]):.2f}")

# %% [markdown]
# Let us look at it: the right hand's height over time, the picture's upper edge at the top.

# %%
rows = 12
canvas = [[" "] * len(wrist) for _ in range(rows)]
lowest, highest = np.nanmax(wrist[:, 1]), np.nanmin(wrist[:, 1])
for frame, y in enumerate(wrist[:, 1]):
    if not np.isnan(y):
        canvas[round((y - highest) / (lowest - highest) * (rows - 1))][frame] = "*"
print("\n".join("".join(row).rstrip() for row in canvas))

# %% [markdown]
# ## Which sign is it?
#
# `score` is a probability among the signs that the model knows. It is shared out whatever is seen, so look at `known`
# as well: False means that the clip looks like none of them.

# %%
answer = client.predict(points, top_k=3)
for place in answer.glosses:
    print(f"{place.gloss:12} {place.score:.4f}  label index {place.index}")
print(f"known: {answer.known}, {answer.frames} frames")

# %% [markdown]
# The same clip upside down and back to front is no sign of the model's any more. It still has a best gloss;
# `known` is what tells.

# %%
nonsense = points[::-1] * [1, -1] + [0, 1]
answer = client.predict(nonsense, top_k=1)
print(f"{answer.gloss} {answer.score:.2f}, known: {answer.known}")

# %% [markdown]
# ## Files
#
# A path does as well as an array: all that `spoter predict` reads, such as the results of MediaPipe Holistic that a
# browser sends.

# %%
print(client.predict("samples/hallo.json").gloss)

# %% [markdown]
# ## Many clips
#
# `predict_many` sends as many in a request as the server takes. A clip that cannot be used has its error in its place,
# and leaves the others alone.

# %%
clips = [points, "samples/hallo.json", np.zeros((10, 7, 2)), "samples/mainz-long.csv"]
for number, answer in enumerate(client.predict_many(clips)):
    print(number, f"{answer.code}: {answer}" if isinstance(answer, InputError) else answer.gloss)

# %% [markdown]
# ## A new sign
#
# From a few clips, without training: one does to try, five by several people are better. The server keeps nothing.
# What it learned comes back, and goes along with the clips that are to be named with it.

# %%
learned = client.enroll("GREETING", ["samples/hallo.json"])
print(f"GREETING is most like {learned.nearest}, with a cosine of {learned.similarity:.2f}")
answer = client.predict("samples/hallo.json", enrolled=learned, top_k=2)
print(", ".join(f"{place.gloss} {place.score:.2f}" for place in answer.glosses))

# %% [markdown]
# ## What can go wrong
#
# What is wrong with a clip is an `InputError`, with a `code` for programs and a text for people, whether it is found
# before anything is sent or by the server. A server that is busy is asked again by itself.

# %%
try:
    client.predict({"keypoints": [{"pose_landmarks": [{"x": 0.5, "y": 0.5}]}]})
except InputError as error:
    print(f"{error.code}, in {error.where}: {error.message}")

try:
    Client("http://127.0.0.1:9").predict(points)
except NoAnswerError as error:
    print(error)

client.close()
