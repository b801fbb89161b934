"""Training and evaluation: data sets, splits by group, augmentation, the loop, metrics. Serving does not import it."""
