"""Use of a network as its training recorded it: nnU-Net's documents, or what was published."""
