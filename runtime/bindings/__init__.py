"""The C functions of the native libraries, declared once."""
