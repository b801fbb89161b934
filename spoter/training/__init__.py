"""Training and evaluation: data sets, splits by group, augmentation, the loop, figures. Serving needs none of it."""
