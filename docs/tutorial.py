# %% [markdown]
# # From a clip to a gloss
#
# For Python developers: at the end you have looked into a clip, recognized one clip and many, and enrolled a new sign.
#
# First start a server with `make serve`. Then run `python docs/tutorial.py` from the repository's root, or run the
# cells one by one: VS Code opens this file as a notebook, and so does Jupyter with jupytext.

# %%
import os

import numpy as np

from spoter.client import Client, InputError, NoAnswerError

url = os.environ.get("SPOTER_URL", "http://127.0.0.1:8080")
client = Client(url)

# %% [markdown]
# ## What does the server know?
#
# Its signs, the landmarks that its model uses, and the limits of a request.

# %%
about = client.describe()
print(f"{about.name} {about.version} knows {len(about.glosses)} signs: {', '.join(about.glosses)}")
print(
    f"It uses {len(about.layout.landmarks)} landmarks of {about.estimator}, in up to {about.limits.max_frames} frames."
)

# %% [markdown]
# ## A clip
#
# A clip is an array (frames, landmarks, 2). x and y are fractions of the picture, y points down, and a missing landmark
# is NaN. This NumPy file holds the 54 landmarks of the model. The whole array of an estimator works as well: 543 points
# of MediaPipe Holistic, 137 of OpenPose, or 133 of COCO-WholeBody.

# %%
points = np.load("samples/software.npy")
names = about.layout.landmarks
present = ~np.isnan(points).any(axis=2)
print(f"{points.shape[0]} frames, {points.shape[1]} landmarks, {present.mean():.0%} of them present")

wrist = points[:, names.index("pose_right_wrist")]
print(f"The right wrist moves from y = {np.nanmax(wrist[:, 1]):.2f} up to y = {np.nanmin(wrist[:, 1]):.2f}")

# %% [markdown]
# Draw the height of the right wrist over time, with the upper edge of the picture at the top.

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
# `score` is a probability among the signs that the model knows. The scores always sum to 1, so look at `known` as well:
# False means that the clip looks like none of these signs.

# %%
answer = client.predict(points, top_k=3)
for ranked in answer.glosses:
    print(f"{ranked.gloss:12} {ranked.score:.4f}  label index {ranked.index}")
print(f"known: {answer.known}, {answer.frames} frames")

# %% [markdown]
# Upside down and backwards, the clip is none of the model's signs. It still has a best gloss, but `known` is False.

# %%
nonsense = points[::-1] * [1, -1] + [0, 1]
answer = client.predict(nonsense, top_k=1)
print(f"{answer.gloss} {answer.score:.2f}, known: {answer.known}")

# %% [markdown]
# ## Files
#
# Instead of an array, pass the path of a file that `spoter predict` reads, such as the results of MediaPipe Holistic
# that a browser sends.

# %%
print(client.predict("samples/hallo.json").gloss)

# %% [markdown]
# ## Many clips
#
# `predict_many` sends as many clips per request as the server accepts. A clip that cannot be used gets an error in its
# place; the other clips are answered.

# %%
clips = [points, "samples/hallo.json", np.zeros((10, 7, 2)), "samples/mainz-long.csv"]
for number, answer in enumerate(client.predict_many(clips)):
    print(number, f"{answer.code}: {answer}" if isinstance(answer, InputError) else answer.gloss)

# %% [markdown]
# ## A new sign
#
# Enroll a sign from a few clips, without training. One clip is enough to try; five by several people are better. The
# server keeps nothing: it returns what it learned, and you send that along with the next clips.

# %%
learned = client.enroll("GREETING", ["samples/hallo.json"])
print(f"The gloss nearest to GREETING is {learned.nearest}, with a cosine of {learned.similarity:.2f}")
answer = client.predict("samples/hallo.json", enrolled=learned, top_k=2)
print(", ".join(f"{ranked.gloss} {ranked.score:.2f}" for ranked in answer.glosses))

# %% [markdown]
# ## Errors
#
# A wrong clip raises `InputError`, with a `code` for programs and a message for people. The client raises it before it
# sends anything, or when the server refuses the clip. If the server is busy, the client retries by itself.

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
