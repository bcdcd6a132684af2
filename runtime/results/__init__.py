"""Everything a user gets: labels, numbers, pictures, a page and a record."""
