"""Files become volumes, and label maps become files."""
