"""Options of `sgmf serve`: the DICOM node and the HTTP service that they describe."""
