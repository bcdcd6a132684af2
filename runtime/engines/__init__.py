"""Built engines that only their user can have written."""
