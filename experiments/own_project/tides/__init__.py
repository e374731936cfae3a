"""Water levels: a network, data, an objective and a tracker, which the files of conf/ name."""
