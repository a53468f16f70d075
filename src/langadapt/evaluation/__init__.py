"""Measuring: bits per byte of text and of answers, tasks by generation, and how sure the figures are."""
