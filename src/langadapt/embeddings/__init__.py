"""Initialisations of embeddings of the core: how the rows of new tokens start. Each module has the same order: options,
initialise, records.

What they agree on: rows are in fp32, the same for the same seed, and none is all zeros; where one matrix serves for
input and output, there are no rows of the output. A token that a method has nothing to say of gets its sub-token mean,
and the log says how many there are.
"""

from langadapt.embeddings import align, baselines, distillation, donor, pieces, similarity

INITS = (*pieces.INITS, *baselines.INITS, align.INIT, similarity.INIT, donor.INIT, distillation.INIT)
