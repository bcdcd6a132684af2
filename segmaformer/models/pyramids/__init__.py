"""SegMaFormer and SegFormer3D: stages of tokens, each coarser, and an all-MLP decoder."""
