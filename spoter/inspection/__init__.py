"""`spoter show`: statistics, probable faults and pictures of a clip."""
