"""SegMamba and SegResMamba: tri-orientated Mamba stages and decoders of MONAI's blocks."""
