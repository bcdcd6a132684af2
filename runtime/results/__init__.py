"""Results for users: labels, numbers, pictures, a page and a record."""
