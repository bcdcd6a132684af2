"""Reading of files into volumes, and writing of label maps."""
