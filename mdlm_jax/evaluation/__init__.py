"""Likelihoods, baselines and measures of samples."""
