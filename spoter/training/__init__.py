"""Training and evaluation: data sets, splits by group, augmentation, the training loop, figures. Serving needs none of it."""
